package overlay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// A running is an overlay that runs, and the handler of what it says.
type running struct {
	*Overlay
	carrier *fakeCarrier
	stop    func() error // ends Run and gives what it returned

	mu       sync.Mutex
	views    map[Key][]Member
	viewed   map[Key]int // how often
	lost     []link.ID
	messages []string
	returned []string
	using    map[link.ID]bool
	onView   func() // called in View
	// onMessage is called in Message.
	onMessage func()
	onStream  func(from link.ID, s *link.Stream) link.StreamHandler
}

// run starts node i of a network. nil is alone.
func run(t *testing.T, network *fakeNet, i byte) *running {
	if network == nil {
		o, err := New(Config{Self: idOf(uint64(i))})
		require.NoError(t, err)
		return runOverlay(t, o)
	}
	return runAs(t, network, idOf(uint64(i)), i)
}

func runAs(t *testing.T, network *fakeNet, id link.ID, i byte) *running {
	carrier := network.carrier(id, addrOf(i))
	r := runOverlay(t, newOverlay(Config{Self: id}, carrier))
	r.carrier = carrier
	return r
}

// runOverlay runs o until the end of the test.
func runOverlay(t *testing.T, o *Overlay) *running {
	r := prepare(o)
	r.start(t, r)
	return r
}

func prepare(o *Overlay) *running {
	return &running{Overlay: o, views: map[Key][]Member{}, viewed: map[Key]int{}, using: map[link.ID]bool{}}
}

// start runs the overlay with a handler, until the end of the test.
func (r *running) start(t *testing.T, h Handler) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, h) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = r.stop() })
	synctest.Wait()
}

// runMesh runs count nodes that are linked.
func runMesh(t *testing.T, count int) []*running {
	network := newFakeNet()
	var nodes []*running
	for i := range count {
		nodes = append(nodes, run(t, network, byte(i+1)))
		for _, n := range nodes[:i] {
			n.Candidate(idOf(uint64(i+1)), addrOf(byte(i+1)))
		}
	}
	for _, n := range nodes {
		<-n.Settled()
		require.Len(t, n.Peers(), count-1)
	}
	return nodes
}

func (r *running) Message(_ *link.Turn, from link.ID, msg []byte) error {
	if r.onMessage != nil {
		r.onMessage()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, fmt.Sprintf("%d %s", from[7], msg))
	if string(msg) == "garbage" {
		return errors.New("garbage")
	}
	return nil
}

func (r *running) Returned(to link.ID, msg []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.returned = append(r.returned, fmt.Sprintf("%d %s", to[7], msg))
}

func (r *running) Using(peer link.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.using[peer]
}

func (r *running) Stream(from link.ID, s *link.Stream) link.StreamHandler {
	if r.onStream == nil {
		return nil
	}
	return r.onStream(from, s)
}

func (r *running) View(g Key, members []Member, _ bool) {
	if r.onView != nil {
		r.onView()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.views[g] = members
	r.viewed[g]++
}

func (r *running) Lost(peer link.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, peer)
}

// gone gives the peers that were lost, in order.
func (r *running) gone() []link.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

func (r *running) view(g Key) map[byte]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	view := map[byte]int{}
	for _, m := range r.views[g] {
		view[m.Node[7]] = m.Count
	}
	return view
}

func TestConfirmedAnnouncementIsInEveryView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 4)
		for _, n := range nodes {
			n.Watch(demoGroup)
		}
		synctest.Wait()
		<-nodes[1].Announce(demoGroup, 3)
		for i, n := range nodes {
			want := map[byte]int{2: 3}
			if i == 1 {
				want = map[byte]int{} // never the node itself
			}
			require.Equal(t, want, n.view(demo))
		}

		nodes[0].Unwatch(demoGroup)
		synctest.Wait()
		<-nodes[1].Announce(demoGroup, 0)
		require.Equal(t, map[byte]int{2: 3}, nodes[0].view(demo), "nothing more")
		require.Empty(t, nodes[2].view(demo))
	})
}

func TestGroupsListsWhatAnybodyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 3)
		<-nodes[0].Announce(Group{KindTopic, "demo"}, 1)
		<-nodes[0].Announce(demoGroup, 2)
		<-nodes[1].Announce(demoGroup, 3)
		<-nodes[1].Announce(otherGroup, 1)
		for _, n := range nodes {
			require.Equal(t, []GroupInfo{
				{demoGroup, []Member{{idOf(1), 2}, {idOf(2), 3}}},
				{otherGroup, []Member{{idOf(2), 1}}},
				{Group{KindTopic, "demo"}, []Member{{idOf(1), 1}}},
			}, n.Groups())
		}
		nodes[0].Groups()[0].Members[0].Count = 99 // the caller's
		require.NoError(t, nodes[1].stop())
		time.Sleep(time.Second)
		require.Equal(t, []GroupInfo{{demoGroup, []Member{{idOf(1), 2}}}, {Group{KindTopic, "demo"}, []Member{{idOf(1), 1}}}}, nodes[2].Groups())
		require.Empty(t, nodes[1].Groups(), "has ended")
	})
}

func TestLongNamesAreToldAndLongerOnesRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		name := func(i int) string { return fmt.Sprintf("%0*d", maxName, i) }
		var confirmed []<-chan struct{}
		for i := range 20_000 { // 5 MB: more than the queue of a control stream holds
			confirmed = append(confirmed, nodes[0].Announce(Group{KindTopic, name(i)}, 1))
		}
		<-nodes[0].Announce(Group{KindTopic, name(0) + "1"}, 1)
		for _, c := range confirmed {
			<-c
		}
		require.Len(t, nodes[1].Groups(), 20_000)
		require.Empty(t, nodes[1].gone())
	})
}

func TestBurstOfAnnouncementsNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 3)
		nodes[2].Watch(demoGroup)
		synctest.Wait()
		var confirmed []<-chan struct{}
		for i := range 10_000 {
			confirmed = append(confirmed, nodes[0].Announce(Group{KindTopic, fmt.Sprint(i)}, 1), nodes[0].Announce(demoGroup, i+1))
		}
		for _, c := range confirmed {
			<-c
		}
		require.Equal(t, map[byte]int{1: 10_000}, nodes[2].view(demo))
		require.NoError(t, nodes[2].stop())
		require.Len(t, nodes[2].core.groups, 10_001)
	})
}

func TestAnnouncementsThatWaitForASlowPeerAreToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		slow := make(chan struct{})
		nodes[1].onView = func() { <-slow }
		nodes[1].Watch(demoGroup)
		synctest.Wait()
		var confirmed []<-chan struct{}
		for i := range 2 * maxAnnouncing {
			confirmed = append(confirmed, nodes[0].Announce(demoGroup, i+1))
			synctest.Wait() // a batch of its own, as long as there may be more
		}
		close(slow)
		for _, c := range confirmed {
			<-c
		}
		require.Equal(t, map[byte]int{1: 2 * maxAnnouncing}, nodes[1].view(demo))
	})
}

func TestAnnouncementsEndWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		nodes[0].carrier.mute(idOf(2)) // no ack arrives
		synctest.Wait()
		var waiting []<-chan struct{}
		for i := range 200 {
			waiting = append(waiting, nodes[0].Announce(demoGroup, i))
			synctest.Wait()
		}
		settled := nodes[0].Settled()
		require.NoError(t, nodes[0].stop())
		for _, c := range append(waiting, settled, nodes[0].Announce(demoGroup, 1), nodes[0].Settled()) {
			<-c
		}
		require.NoError(t, nodes[0].Leave(t.Context()))
	})
}

func TestHandlerMayCallTheOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		nodes[0].onView = func() {
			for i := range 3000 {
				nodes[0].Watch(Group{KindTopic, fmt.Sprint(i)})
				nodes[0].Announce(Group{KindTopic, fmt.Sprint(i)}, 1)
				nodes[0].Candidate(idOf(9), addrOf(9))
			}
			nodes[0].Peers()
			nodes[0].onView = nil
		}
		nodes[0].Watch(demoGroup)
		synctest.Wait()
		require.Contains(t, nodes[0].views, KeyOf(KindTopic, []byte("2999")))
	})
}

func TestMessagesGoStraightToAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		var turn link.Turn
		require.NoError(t, nodes[0].Send(&turn, idOf(2), 0, []byte("he"), []byte("llo")))
		require.NoError(t, nodes[0].Send(&turn, idOf(3), 0, []byte("who"), []byte("?")))
		synctest.Wait()
		require.Equal(t, []string{"3 who?"}, nodes[0].returned, "nobody knows that node")
		require.Equal(t, []string{"1 hello"}, nodes[1].messages)
	})
}

func TestNothingPassesALinkThatWasGivenUp(t *testing.T) {
	o := newOverlay(Config{Self: idOf(1)}, nil)
	c := &discardConn{fakeConn{at: &fakeCarrier{id: idOf(2)}}}
	l := o.links.add(c)
	require.NoError(t, o.Send(new(link.Turn), idOf(2), 0, nil, nil))
	o.close(closeLink{l.number, closeSilent})
	require.ErrorIs(t, o.Send(new(link.Turn), idOf(2), 0, nil, nil), ErrNotLinked)
	o.message(new(link.Turn), c, nil) // has no handler to come to
}

func TestSilentPeerIsLostAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 3)
		nodes[0].Watch(demoGroup)
		<-nodes[1].Announce(demoGroup, 1)
		nodes[0].carrier.mute(idOf(2))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []link.ID{idOf(2)}, nodes[0].gone())
		require.Equal(t, []link.ID{idOf(1)}, nodes[1].gone(), "the link is closed at both ends")

		time.Sleep(time.Second)
		require.Len(t, nodes[0].Peers(), 2)
		require.Equal(t, map[byte]int{2: 1}, nodes[0].view(demo))
	})
}

func TestPacketsKeepAPeerAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		l := nodes[0].links.to(idOf(2))
		nodes[0].carrier.mute(idOf(2)) // no heartbeat arrives
		for range 12 {
			l.conn.(*fakeConn).received.Add(1)
			l.conn.(*fakeConn).other.received.Add(1)
			time.Sleep(pingSoon)
		}
		require.Empty(t, nodes[0].gone())
		time.Sleep(time.Second)
		require.Len(t, nodes[0].gone(), 1)
	})
}

func TestOversizedControlMessageEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		require.NoError(t, nodes[0].links.to(idOf(2)).conn.SendControl(make([]byte, maxControl+1)))
		time.Sleep(banTime / 2)
		require.Empty(t, nodes[1].Peers())
		require.Equal(t, []link.ID{idOf(1)}, nodes[1].gone())
	})
}

func TestAloneIsSettledAndConfirmsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		o := run(t, nil, 1)
		o.Candidate(idOf(2), addrOf(2))
		<-o.Settled()
		<-o.Announce(demoGroup, 1)
		o.Watch(demoGroup)
		synctest.Wait()
		require.Equal(t, 1, o.viewed[demo])
		require.Empty(t, o.view(demo))
		require.Empty(t, o.Peers())
		require.NoError(t, o.Leave(t.Context()))
		require.Zero(t, time.Since(began))
		require.NoError(t, o.stop())
	})
}

func TestSettledKnowsTheCandidatesOfferedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newFakeNet()
		a, b := run(t, network, 1), run(t, network, 2)
		a.Watch(demoGroup)
		<-b.Announce(demoGroup, 1)
		<-a.Settled() // alone so far
		a.Candidate(idOf(2), addrOf(2))
		<-a.Settled()
		require.Len(t, a.Peers(), 1)
		require.Equal(t, map[byte]int{2: 1}, a.view(demo))
	})
}

func TestCandidatesComeBeforeTheQuestionWhetherAllIsSettled(t *testing.T) {
	o := newOverlay(Config{Self: idOf(1)}, newFakeNet().carrier(idOf(1), addrOf(1)))
	o.Candidate(idOf(2), addrOf(2))
	o.Settled()
	var events []event
	o.serveMail(func(e event) { events = append(events, e) })
	require.Equal(t, []event{offered{idOf(2), addrOf(2)}, settle{}}, events)
}

func TestLeaveIsConfirmedByThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 3)
		nodes[0].Watch(demoGroup)
		<-nodes[2].Announce(demoGroup, 2)
		require.NoError(t, nodes[2].Leave(t.Context()))
		require.Empty(t, nodes[0].view(demo))
		require.Len(t, nodes[2].Peers(), 2, "links stay for what is on its way")
		<-nodes[2].Announce(demoGroup, 1)
		synctest.Wait()
		require.Empty(t, nodes[0].view(demo), "told to nobody")

		require.NoError(t, nodes[2].stop())
		time.Sleep(time.Minute)
		require.Len(t, nodes[0].Peers(), 1)
		require.Equal(t, []link.ID{idOf(3)}, nodes[0].gone())
	})
}

func TestLeaveGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		<-nodes[0].Announce(demoGroup, 1)
		nodes[0].carrier.mute(idOf(2))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, nodes[0].Leave(ctx), context.DeadlineExceeded)
	})
}

func TestFailedLinksEndRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := run(t, newFakeNet(), 1)
		broken := errors.New("socket is broken")
		o.carrier.fail <- broken
		synctest.Wait()
		require.ErrorIs(t, o.stop(), broken)
	})
}

func TestFloodOfCandidatesNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOverlay(Config{Self: idOf(1)}, newFakeNet().carrier(idOf(1), addrOf(1)))
		for i := range uint64(10_000) {
			o.Candidate(idOf(2+i), addrOf(2))
		}
	})
}

func BenchmarkSend(b *testing.B) {
	o := newOverlay(Config{Self: idOf(1)}, nil)
	for i := range uint64(40) {
		o.links.add(&discardConn{fakeConn{at: &fakeCarrier{id: idOf(2 + i)}}})
	}
	head, body := make([]byte, 32), make([]byte, 64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var turn link.Turn
		for pb.Next() {
			if err := o.Send(&turn, idOf(7), 1, head, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	o := newOverlay(Config{Self: idOf(1)}, nil)
	o.handler = discardHandler{}
	c := &discardConn{fakeConn{at: &fakeCarrier{id: idOf(2)}}}
	o.links.add(c)
	msg := make([]byte, 64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var turn link.Turn
		for pb.Next() {
			o.message(&turn, c, msg)
		}
	})
}

type discardConn struct{ fakeConn }

func (*discardConn) Close(link.Reason) {}

func (*discardConn) Send(*link.Turn, uint64, []byte, []byte) error { return nil }

type discardHandler struct{}

func (discardHandler) Message(*link.Turn, link.ID, []byte) error       { return nil }
func (discardHandler) Stream(link.ID, *link.Stream) link.StreamHandler { return nil }
func (discardHandler) View(Key, []Member, bool)                        {}
func (discardHandler) Returned(link.ID, []byte)                        {}
func (discardHandler) Using(link.ID) bool                              { return false }
func (discardHandler) Lost(link.ID)                                    {}
