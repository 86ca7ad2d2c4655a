package overlay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// runMany runs so many nodes that not all have links to each other, and waits until links that
// nobody needs are given up. It returns two that have none, and all.
func runMany(t *testing.T, network *fakeNet) (a, b *running, nodes []*running) {
	const count = 40
	rng := rand.New(rand.NewPCG(1, 0))
	for i := range count {
		id := randomID(rng) // as real ones are, and with a number in it
		id[7] = byte(i + 1)
		n := runAs(t, network, id, byte(i+1))
		if i > 0 {
			n.Candidate(nodes[0].core.self, addrOf(1))
		}
		nodes = append(nodes, n)
	}
	time.Sleep(2 * time.Minute)
	for _, b := range nodes[1:] {
		if nodes[0].links.to(b.core.self) == nil && b.links.to(nodes[0].core.self) == nil {
			// Where it is comes with the view of a group that it is a member of.
			nodes[0].Watch(demoGroup)
			<-b.Announce(demoGroup, 1)
			time.Sleep(5 * time.Second)
			if nodes[0].links.to(b.core.self) == nil {
				require.Equal(t, map[byte]int{b.core.self[7]: 1}, nodes[0].view(demo))
				return nodes[0], b, nodes
			}
			<-b.Announce(demoGroup, 0)
		}
	}
	t.Fatal("all are linked")
	return nil, nil, nil
}

func (r *running) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.messages...)
}

func (r *running) back() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.returned...)
}

func (r *running) use(peer link.ID, used bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.using[peer] = used
}

func bothLinked(a, b *running) bool {
	return a.links.to(b.core.self) != nil && b.links.to(a.core.self) != nil
}

func TestMessagesThatWaitForALinkKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newFakeNet()
		a, b, _ := runMany(t, network)
		network.slow(func() time.Duration { return 5 * time.Millisecond })
		const senders, flows, each = 4, 3, 20
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				var turn link.Turn
				for i := range each {
					for flow := range flows {
						require.NoError(t, a.Send(&turn, b.core.self, uint64(flow), fmt.Appendf(nil, "%d-%d-", s, flow), fmt.Append(nil, i)))
					}
					time.Sleep(time.Millisecond) // some are sent when the link is up
				}
				turn.End()
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		require.True(t, bothLinked(a, b))
		next := map[string]int{}
		for _, m := range b.said() {
			var s, flow, i, from int
			_, err := fmt.Sscanf(m, "%d %d-%d-%d", &from, &s, &flow, &i)
			require.NoError(t, err)
			lane := fmt.Sprint(s, flow)
			require.Equal(t, next[lane], i)
			next[lane]++
		}
		require.Len(t, b.said(), senders*flows*each)
		require.Empty(t, a.back())
	})
}

func TestMessagesToANodeThatIsGoneComeBackInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := runMany(t, newFakeNet())
		require.NoError(t, b.stop())
		var turn link.Turn
		want := []string{}
		for i := range 10 {
			require.NoError(t, a.Send(&turn, b.core.self, uint64(i%3), []byte("m"), fmt.Append(nil, i)))
			want = append(want, fmt.Sprintf("%d m%d", b.core.self[7], i))
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, want, a.back())
		require.Zero(t, a.links.queued)
		require.Empty(t, a.links.queues)
		require.NoError(t, a.Send(&turn, b.core.self, 0, []byte("again"), nil))
		time.Sleep(10 * time.Second)
		require.Len(t, a.back(), 11)
	})
}

func TestQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newFakeNet()
		a, b, _ := runMany(t, network)
		network.slow(func() time.Duration { return 10 * time.Millisecond }) // no link comes up before time passes
		var turn link.Turn
		large := make([]byte, maxQueue/2)
		require.NoError(t, a.Send(&turn, b.core.self, 0, nil, large))
		require.NoError(t, a.Send(&turn, b.core.self, 0, nil, large))
		require.ErrorIs(t, a.Send(&turn, b.core.self, 1, []byte("x"), nil), link.ErrFull)
		time.Sleep(time.Second)
		require.Len(t, b.said(), 2)
		require.NoError(t, a.Send(&turn, b.core.self, 1, []byte("x"), nil))
		time.Sleep(time.Second)
		require.Len(t, b.said(), 3)
	})
}

func TestQueuesToAllNodesTogetherAreBounded(t *testing.T) {
	o := newOverlay(Config{Self: idOf(1)}, newFakeNet().carrier(idOf(1), addrOf(1)))
	var turn link.Turn
	const most = maxQueued / maxQueue
	require.NoError(t, o.Send(&turn, idOf(2), 0, make([]byte, 2*maxQueue), nil), "one that is larger waits alone")
	require.ErrorIs(t, o.Send(&turn, idOf(2), 0, []byte("x"), nil), link.ErrFull)
	for i := range uint64(most - 2) {
		require.NoError(t, o.Send(&turn, idOf(3+i), 0, make([]byte, maxQueue), nil))
	}
	require.ErrorIs(t, o.Send(&turn, idOf(1000), 0, []byte("x"), nil), link.ErrFull)
}

func TestStreamToANodeWithoutALinkWaitsForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newFakeNet()
		a, b, _ := runMany(t, network)
		network.slow(func() time.Duration { return time.Second })
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := a.OpenStream(ctx, b.core.self, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 100*time.Millisecond, time.Since(began))

		_, err = a.OpenStream(t.Context(), b.core.self, nil)
		require.ErrorContains(t, err, "no streams", "it is the link that refuses")
		require.NotNil(t, a.links.to(b.core.self))
		require.GreaterOrEqual(t, time.Since(began), time.Second)
		require.NoError(t, a.AwaitRoom(t.Context(), b.core.self, 1))
		require.ErrorIs(t, a.AwaitRoom(t.Context(), idOf(99), 1), ErrNotLinked)
	})
}

func TestWhoWaitsForALinkIsToldThatRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newFakeNet()
		a, b, _ := runMany(t, network)
		network.slow(func() time.Duration { return time.Second })
		waited := make(chan error, 1)
		go func() {
			_, err := a.OpenStream(t.Context(), b.core.self, nil)
			waited <- err
		}()
		synctest.Wait()
		require.NoError(t, a.stop())
		require.ErrorIs(t, <-waited, link.ErrClosed)
	})
}

func TestLinkThatNobodyUsesIsGivenUpAtBothEnds(t *testing.T) {
	for name, row := range map[string]struct {
		busy  func(a, b *running) // once a second
		stays bool
	}{
		"nobody":             {func(_, _ *running) {}, false},
		"used by the dialer": {func(a, b *running) { a.use(b.core.self, true) }, true},
		"used by the other":  {func(a, b *running) { b.use(a.core.self, true) }, true},
		"messages of the dialer": {func(a, b *running) {
			_ = a.Send(new(link.Turn), b.core.self, 0, []byte("x"), nil)
		}, true},
		"messages of the other": {func(a, b *running) {
			_ = b.Send(new(link.Turn), a.core.self, 0, []byte("x"), nil)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, _ := runMany(t, newFakeNet())
				require.NoError(t, a.Send(new(link.Turn), b.core.self, 0, []byte("hello"), nil))
				time.Sleep(time.Second)
				require.True(t, bothLinked(a, b))
				goneA, goneB := len(a.gone()), len(b.gone())
				givenUp := func() bool {
					return slices.Contains(a.gone()[goneA:], b.core.self) || slices.Contains(b.gone()[goneB:], a.core.self)
				}
				for range 120 {
					row.busy(a, b)
					time.Sleep(time.Second)
					if givenUp() {
						break
					}
				}
				require.Equal(t, !row.stays, givenUp())
				require.Equal(t, row.stays, bothLinked(a, b))
				if row.stays {
					return
				}
				require.Contains(t, a.gone()[goneA:], b.core.self)
				require.Contains(t, b.gone()[goneB:], a.core.self)
				require.Equal(t, map[byte]int{b.core.self[7]: 1}, a.view(demo), "it is shown all the same")

				require.NoError(t, b.Send(new(link.Turn), a.core.self, 0, []byte("hello"), nil))
				time.Sleep(time.Second)
				require.Contains(t, a.said(), fmt.Sprintf("%d hello", b.core.self[7]))
			})
		})
	}
}

// Messages pass in the midst of handshakes that give the link up, at random times: none is lost,
// none comes twice or before another one of its flow.
func TestGivingALinkUpLosesNoMessage(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { givingUp(t, seed) })
		})
	}
}

const soon = 200 * time.Millisecond // takes the place of idleAfter

func givingUp(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	random := func(most time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.Int64N(int64(most)))
	}
	network := newFakeNet()
	a, b := run(t, network, 1), run(t, network, 2)
	a.Candidate(idOf(2), addrOf(2))
	<-a.Settled()
	synctest.Wait()
	network.slow(func() time.Duration { return random(5 * time.Millisecond) })

	const each, flows = 200, 3
	var wg sync.WaitGroup
	for _, pair := range [][2]*running{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		wg.Go(func() {
			for i := range each {
				for flow := range flows {
					err := from.Send(new(link.Turn), to.core.self, uint64(flow), fmt.Appendf(nil, "%d-", flow), fmt.Append(nil, i))
					if err != nil {
						t.Errorf("message %d: %v", i, err)
					}
				}
				if random(10) < 3 {
					time.Sleep(random(6 * soon))
				} else {
					time.Sleep(random(10 * time.Millisecond))
				}
			}
		})
	}
	ended := make(chan struct{})
	var offering sync.WaitGroup
	offers, given := 0, 0
	for _, n := range []*running{a, b} {
		offering.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(random(soon)):
				}
				n.post(do(func(c *core) {
					// Nobody needs a link that was not used for a moment.
					for _, p := range c.peers {
						p.needed, p.since = false, time.Time{}
						if c.now.Sub(p.used) > soon {
							p.used = time.Time{}
						}
						if random(2) == 0 && !c.needs(p) && p.offered.IsZero() {
							p.offered = c.now
							c.emit(offerLink{p.link})
							mu.Lock()
							offers++
							mu.Unlock()
						}
					}
				}))
			}
		})
	}
	wg.Wait()
	close(ended)
	offering.Wait()
	time.Sleep(10 * time.Second)
	for _, pair := range [][2]*running{{a, b}, {b, a}} {
		next := map[int]int{}
		for _, m := range pair[1].said() {
			var from, flow, i int
			_, err := fmt.Sscanf(m, "%d %d-%d", &from, &flow, &i)
			require.NoError(t, err)
			require.Equal(t, next[flow], i, "seed %d: flow %d", seed, flow)
			next[flow]++
		}
		require.Equal(t, map[int]int{0: each, 1: each, 2: each}, next)
		require.Empty(t, pair[0].back())
		given += len(pair[0].gone())
	}
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, offers, 5)
	require.Greater(t, given, 2, "links were given up")
}

func TestPeerWhoseMessageIsRefusedLosesItsLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 3)
		require.NoError(t, nodes[0].Send(new(link.Turn), idOf(2), 0, []byte("garbage"), nil))
		time.Sleep(banTime / 2)
		require.Equal(t, []link.ID{idOf(1)}, nodes[1].gone())
		require.Contains(t, nodes[0].gone(), idOf(2))
		require.Len(t, nodes[1].Peers(), 1)
		require.Len(t, nodes[2].Peers(), 2)
		time.Sleep(2*banTime + soonBackoff)
		require.Len(t, nodes[1].Peers(), 2, "forgiven")
	})
}

func TestWatchOfATooLongNameShowsAnEmptyView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := runMesh(t, 2)
		long := Group{KindCluster, strings.Repeat("n", maxName+1)}
		nodes[0].Watch(long)
		synctest.Wait()
		require.Equal(t, 1, nodes[0].viewed[long.Key()])
		require.Empty(t, nodes[0].view(long.Key()))
		<-nodes[1].Announce(long, 1)
		nodes[0].Unwatch(long)
		synctest.Wait()
		require.Empty(t, nodes[0].view(long.Key()))
		for _, g := range nodes[0].Groups() {
			require.NotEqual(t, long, g.Group)
		}
	})
}

func TestWhatIsRefusedLeavesNothingThatKeepsTheNextFromBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := runMany(t, newFakeNet())
		a.links.mu.Lock()
		a.links.queued = maxQueued // by messages for others
		a.links.mu.Unlock()
		var turn link.Turn
		require.ErrorIs(t, a.Send(&turn, b.core.self, 0, nil, []byte("refused")), link.ErrFull)
		a.links.mu.Lock()
		a.links.queued = 0
		a.links.mu.Unlock()
		require.NoError(t, a.Send(&turn, b.core.self, 0, nil, []byte("sent")))
		turn.End()
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{fmt.Sprintf("%d sent", a.core.self[7])}, b.said())
	})
}
