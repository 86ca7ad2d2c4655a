package overlay

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
	"github.com/stretchr/testify/require"
)

// runLinked runs count nodes over real links, of which the first was offered the
// others and each of them the first.
func runLinked(t *testing.T, count int) (*linktest.Network, []*running) {
	network := linktest.New(t, count, linktest.Options{Latency: time.Millisecond})
	var nodes []*running
	for _, transport := range network.Transports {
		o, err := New(Config{Transport: transport, Self: transport.ID()})
		require.NoError(t, err)
		nodes = append(nodes, runOverlay(t, o))
	}
	for i, n := range nodes[1:] {
		n.Candidate(network.Transports[0].ID(), network.Addr(0))
		nodes[0].Candidate(network.Transports[i+1].ID(), network.Addr(i+1))
	}
	return network, nodes
}

// count is how many nodes a view shows, and the sum of their members.
func (r *running) count(g Key) (nodes, members int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.views[g] {
		members += m.Count
	}
	return len(r.views[g]), members
}

func TestOverLinksNodesConvergeAndTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 8
		_, nodes := runLinked(t, count)
		began := time.Now()
		for _, n := range nodes {
			n.Watch(demoGroup)
			<-n.Settled()
		}
		time.Sleep(time.Second)
		t.Log("settled after", time.Since(began)-time.Second)
		for _, n := range nodes {
			require.Len(t, n.Peers(), count-1)
			<-n.Announce(demoGroup, 2)
		}
		for _, n := range nodes {
			hosts, members := n.count(demo)
			require.Equal(t, count-1, hosts)
			require.Equal(t, 2*(count-1), members)
		}

		var turn link.Turn
		require.NoError(t, nodes[0].Send(&turn, nodes[5].core.self, 3, []byte("he"), []byte("llo")))
		turn.End()
		time.Sleep(10 * time.Millisecond)
		nodes[5].mu.Lock()
		defer nodes[5].mu.Unlock()
		require.Len(t, nodes[5].messages, 1)
	})
}

func TestOverLinksUnreachableNodeIsLostAndRejoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, nodes := runLinked(t, 4)
		time.Sleep(time.Second)
		nodes[1].Watch(demoGroup)
		nodes[2].Watch(demoGroup)
		<-nodes[0].Announce(demoGroup, 1)
		<-nodes[2].Announce(demoGroup, 1)

		for i := range nodes[:3] {
			network.Paths.Cut(network.Addr(i), network.Addr(3))
		}
		for i := range nodes[:2] {
			network.Paths.Cut(network.Addr(i), network.Addr(2))
		}
		time.Sleep(time.Second)
		hosts, _ := nodes[1].count(demo)
		require.Equal(t, 1, hosts)
		require.ElementsMatch(t, []link.ID{nodes[2].core.self, nodes[3].core.self}, nodes[1].gone())

		time.Sleep(20 * time.Second)
		network.Paths.Heal()
		time.Sleep(10 * time.Second)
		for _, n := range nodes {
			require.Len(t, n.Peers(), 3)
		}
		hosts, _ = nodes[1].count(demo)
		require.Equal(t, 2, hosts)
	})
}

func TestOverLinksLeavingNodeGoesWithoutAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := runLinked(t, 3)
		time.Sleep(time.Second)
		nodes[1].Watch(demoGroup)
		<-nodes[2].Announce(demoGroup, 1)
		require.NoError(t, nodes[2].Leave(t.Context()))
		hosts, _ := nodes[1].count(demo)
		require.Zero(t, hosts)
		require.NoError(t, nodes[2].stop())
		time.Sleep(100 * time.Millisecond)
		require.Len(t, nodes[1].gone(), 1)
		require.Len(t, nodes[1].Peers(), 1)
	})
}

// An answerer answers every message, and counts what it hears.
type answerer struct {
	*running
	answered atomic.Int64
}

func (a *answerer) Message(t *link.Turn, from link.ID, msg []byte) error {
	if string(msg[:3]) == "ask" {
		return a.Send(t, from, uint64(len(msg)), []byte("answer"), msg)
	}
	a.answered.Add(1)
	return nil
}

func TestOverLinksLeavingNodeAnswersWhatWasSentBeforeItWasKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 4
		network := linktest.New(t, count, linktest.Options{Latency: time.Millisecond})
		var nodes [count]*answerer
		for i, transport := range network.Transports {
			o, err := New(Config{Transport: transport, Self: transport.ID()})
			require.NoError(t, err)
			a := &answerer{running: prepare(o)}
			a.start(t, a)
			nodes[i] = a
			for j := range i {
				a.Candidate(network.Transports[j].ID(), network.Addr(j))
			}
		}
		time.Sleep(time.Second)
		leaver := nodes[0]
		for _, n := range nodes[1:] {
			n.Watch(demoGroup)
		}
		<-leaver.Announce(demoGroup, 1)

		var wg sync.WaitGroup
		var asked [count]int64
		for i, n := range nodes[1:] {
			wg.Go(func() {
				for ; ; time.Sleep(50 * time.Microsecond) {
					var turn link.Turn
					for flow := range 8 {
						if hosts, _ := n.count(demo); hosts == 0 {
							turn.End()
							return
						}
						if n.Send(&turn, leaver.core.self, uint64(flow), []byte("ask"), make([]byte, 100*flow)) == nil {
							asked[i+1]++
						}
					}
					turn.End()
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, leaver.Leave(t.Context()))
		require.NoError(t, leaver.stop())
		wg.Wait()
		time.Sleep(time.Second)
		for i, n := range nodes[1:] {
			require.Greater(t, asked[i+1], int64(2000))
			require.Equal(t, asked[i+1], n.answered.Load(), "node %d", i+1)
		}
	})
}

func TestOverLinksLeaveDoesNotWaitForALinkThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, nodes := runLinked(t, 3)
		time.Sleep(time.Second)
		release := make(chan struct{})
		nodes[1].onMessage = func() { <-release }
		var turn link.Turn
		require.NoError(t, nodes[0].Send(&turn, network.Transports[1].ID(), 0, []byte("block"), nil))
		turn.End()
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		require.NoError(t, nodes[0].Leave(t.Context()))
		require.InDelta(t, time.Second, time.Since(began), float64(100*time.Millisecond))

		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, nodes[0].Leave(ctx), context.DeadlineExceeded)
		close(release)
	})
}

// A lastMessage keeps the last message of a stream and answers it.
type lastMessage struct {
	stream *link.Stream
	msg    string
	broken error
}

func (l *lastMessage) Received(t *link.Turn, msg []byte) {
	l.msg = string(msg)
	if l.stream != nil {
		_ = l.stream.Send(t, []byte("answer to "), msg)
	}
}
func (*lastMessage) Finished()          {}
func (l *lastMessage) Broken(err error) { l.broken = err }

func TestOverLinksStreamsLeadToAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, nodes := runLinked(t, 3)
		time.Sleep(time.Second)
		synctest.Wait()
		var from link.ID
		nodes[2].onStream = func(peer link.ID, s *link.Stream) link.StreamHandler {
			from = peer
			return &lastMessage{stream: s}
		}
		h := new(lastMessage)
		s, err := nodes[1].OpenStream(t.Context(), nodes[2].core.self, h)
		require.NoError(t, err)
		var turn link.Turn
		require.NoError(t, s.Send(&turn, nil, []byte("hello")))
		turn.End()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, "answer to hello", h.msg)
		require.Equal(t, nodes[1].core.self, from)
		require.NoError(t, nodes[1].AwaitRoom(t.Context(), nodes[2].core.self, 1))

		refused := new(lastMessage)
		s, err = nodes[1].OpenStream(t.Context(), nodes[0].core.self, refused)
		require.NoError(t, err)
		require.NoError(t, s.Send(&turn, nil, nil))
		turn.End()
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, refused.broken, link.ReasonRefused)

		_, err = nodes[1].OpenStream(t.Context(), link.ID{9}, h)
		require.ErrorIs(t, err, ErrNotLinked)
		require.ErrorIs(t, nodes[1].AwaitRoom(t.Context(), link.ID{9}, 1), ErrNotLinked)
	})
}

func TestOverLinksStrangersStayOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, nodes := runLinked(t, 2)
		i := network.Add(linktest.NetworkOf(t, "other", linktest.Key(t)))
		o, err := New(Config{Transport: network.Transports[i], Self: network.Transports[i].ID()})
		require.NoError(t, err)
		stranger := runOverlay(t, o)
		stranger.Candidate(network.Transports[0].ID(), network.Addr(0))
		nodes[0].Candidate(network.Transports[i].ID(), network.Addr(i))
		<-stranger.Settled()
		<-nodes[0].Settled()
		time.Sleep(5 * time.Second)
		require.Empty(t, stranger.Peers())
		require.Len(t, nodes[0].Peers(), 1)
	})
}

// A crowd is many nodes over real links, in virtual time, that all watch a group and are in it.
type crowd struct {
	t       *testing.T
	network *linktest.Network
	nodes   []*running // nil: killed
}

func runCrowd(t *testing.T, count int) *crowd {
	if raceDetector {
		count = min(count, 20)
	}
	network, nodes := runLinked(t, count)
	c := &crowd{t: t, network: network, nodes: nodes}
	began := time.Now()
	for _, n := range nodes {
		n.Watch(demoGroup)
		n.Announce(demoGroup, 1)
	}
	c.until(4*time.Second, c.agree)
	links := 0
	for _, n := range nodes {
		links = max(links, len(n.Peers()))
	}
	t.Logf("%d nodes agree after %v, with %d links at most", count, time.Since(began), links)
	return c
}

// agree tells whether all views show all others that live, and nobody else.
func (c *crowd) agree() bool {
	live := 0
	for _, n := range c.nodes {
		if n != nil {
			live++
		}
	}
	return !slices.ContainsFunc(c.nodes, func(n *running) bool {
		if n == nil {
			return false
		}
		hosts, _ := n.count(demo)
		return hosts != live-1
	})
}

// until waits for something, and tells how long it took.
func (c *crowd) until(limit time.Duration, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) >= limit {
			c.t.Fatalf("not after %v: views show %v", limit, c.shows())
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// shows are how many others the views show.
func (c *crowd) shows() (hosts []int) {
	for _, n := range c.nodes {
		if n != nil {
			h, _ := n.count(demo)
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// changes counts how often views have changed.
func (c *crowd) changes() (total int) {
	for _, n := range c.nodes {
		n.mu.Lock()
		total += n.viewed[demo]
		n.mu.Unlock()
	}
	return total
}

// cut keeps two nodes from each other.
func (c *crowd) cut(from, to int) { c.network.Paths.Cut(c.network.Addr(from), c.network.Addr(to)) }

func TestOverLinksADeadNodeIsGoneFromAllViewsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 64)
		time.Sleep(5 * time.Second)
		var took []time.Duration
		kills := len(c.nodes) / 8
		for i := range kills {
			time.Sleep(8*time.Second + time.Duration(i)*7*time.Millisecond) // in each phase of the pings, when all is calm
			for j := range c.nodes {                                        // it dies without a word
				if j != i {
					c.cut(i, j)
				}
			}
			c.nodes[i] = nil
			took = append(took, c.until(3*time.Second, c.agree))
		}
		t.Logf("%d kills: out of all views after p50 %v, p99 %v, at most %v", kills, quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
		require.Less(t, quantile(took, 1), time.Second)
	})
}

// A tenth of the nodes hear and say nothing for 400 ms, again and again.
func TestOverLinksShortStallsRaiseNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 64)
		time.Sleep(5 * time.Second)
		before := c.changes()
		var mu sync.Mutex // guards stalled
		stalled := map[netip.AddrPort]bool{}
		c.network.Paths.Watch(func(from, to netip.AddrPort, _ []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			return !stalled[from] && !stalled[to]
		})
		for round := range 6 {
			mu.Lock()
			for i := round; i < len(c.nodes); i += 10 {
				stalled[c.network.Addr(i)] = true
			}
			mu.Unlock()
			time.Sleep(400 * time.Millisecond)
			mu.Lock()
			clear(stalled)
			mu.Unlock()
			time.Sleep(1500 * time.Millisecond)
		}
		require.True(t, c.agree())
		require.Equal(t, before, c.changes(), "nobody was taken for dead")
	})
}

func TestOverLinksAPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 40)
		time.Sleep(2 * time.Second)
		side := len(c.nodes) / 3
		for i := range side {
			for j := side; j < len(c.nodes); j++ {
				c.cut(i, j)
			}
		}
		took := c.until(40*time.Second, func() bool {
			hosts := c.shows()
			slices.Sort(hosts)
			return hosts[0] == side-1 && hosts[side-1] == side-1 && hosts[side] == len(c.nodes)-side-1 && hosts[len(hosts)-1] == hosts[side]
		})
		t.Log("each side serves what it has after", took)
		time.Sleep(10 * time.Second)
		c.network.Paths.Heal()
		t.Log("healed after", c.until(30*time.Second, c.agree)) // discovery would help
	})
}
