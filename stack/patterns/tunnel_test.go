package patterns_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// A peer is a session with tunnels: it keeps what they get.
type peer struct {
	session
	accepts func(e *end, t *link.Turn, o patterns.Open) bool // what to do with an offered tunnel

	tunnels chan *end
}

// An end is one end of a tunnel, with what has come out of it.
type end struct {
	tun  *patterns.Tunnel
	turn link.Turn

	mu      sync.Mutex
	log     []string // in order
	onData  func(t *link.Turn, last bool, payload []byte)
	aborted int
	after   int // calls after Aborted
}

func (e *end) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.aborted > 0 {
		e.after++
	}
	e.log = append(e.log, fmt.Sprintf(format, args...))
}

func (e *end) Opened(_ *link.Turn, window uint32, headers []byte) {
	e.note("opened %d %s", window, headers)
}
func (e *end) Data(t *link.Turn, last bool, payload []byte) {
	e.note("data %s %v", payload, last)
	if e.onData != nil {
		e.onData(t, last, payload)
	}
}
func (e *end) Allow(_ *link.Turn, n uint32) { e.note("allow %d", n) }
func (e *end) Finish(*link.Turn)            { e.note("finish") }
func (e *end) Aborted(_ *link.Turn, code patterns.Code, text []byte) {
	e.note("aborted %v %s", code, text)
	e.mu.Lock()
	e.aborted++
	e.mu.Unlock()
}

// story is what has come so far, when everything is at rest.
func (e *end) story(t *testing.T) string {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.LessOrEqual(t, e.aborted, 1)
	require.Zero(t, e.after)
	return strings.Join(e.log, ", ")
}

func (e *end) data(t *testing.T, text string) {
	t.Helper()
	require.True(t, e.tun.Data(&e.turn, true, []byte(text)))
	e.turn.End()
}

func (e *end) finish()               { e.tun.Finish(&e.turn); e.turn.End() }
func (e *end) allow(n uint32)        { e.tun.Allow(&e.turn, n); e.turn.End() }
func (e *end) abort(c patterns.Code) { e.tun.Abort(&e.turn, c, []byte("why")); e.turn.End() }
func (e *end) accept(window uint32)  { e.tun.Accept(&e.turn, window, []byte("ah"), e); e.turn.End() }
func (p *peer) close()               { p.port.Close(&p.turn); p.turn.End() }
func accepting(window uint32) func(*end, *link.Turn, patterns.Open) bool {
	return func(e *end, t *link.Turn, _ patterns.Open) bool {
		e.tun.Accept(t, window, []byte("ah"), e)
		return true
	}
}

func (p *peer) Tunnel(t *link.Turn, tunnel *patterns.Tunnel, o patterns.Open) bool {
	e := &end{tun: tunnel}
	if p.accepts == nil || !p.accepts(e, t, o) {
		return false
	}
	p.tunnels <- e
	return true
}

// peer attaches a session; serves with accepts, if that is not nil.
func (h *host) peer(accepts func(*end, *link.Turn, patterns.Open) bool) *peer {
	p := &peer{accepts: accepts, tunnels: make(chan *end, 2000)}
	p.credit, p.replies = -1, make(map[uint64][]patterns.Reply)
	p.port = h.Attach(p)
	if accepts != nil {
		<-p.port.Serve("c")
	}
	return p
}

func (p *peer) open(budget time.Duration, window uint32) *end {
	e := new(end)
	e.tun = p.port.Open(&p.turn, patterns.Open{ID: 1, Cluster: []byte("c"), Budget: budget, Window: window, Headers: []byte("oh")}, e)
	p.turn.End()
	return e
}

// bothWays runs a story with both ends on one node, and on two.
func bothWays(t *testing.T, story func(t *testing.T, w *world, client, service *host)) {
	t.Run("local", func(t *testing.T) {
		inWorld(t, 0, func(t *testing.T, w *world) {
			h := w.host(1)
			story(t, w, h, h)
			settled(t, w, h)
		})
	})
	t.Run("remote", func(t *testing.T) {
		inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
			hs := w.hosts(1, 2)
			story(t, w, hs[0], hs[1])
			settled(t, w, hs...)
		})
	})
}

// inUse is whether the node has something in flight with one of the others.
func inUse(h *host, others []*host) bool {
	return slices.ContainsFunc(others, func(o *host) bool { return h.Using(o.id) })
}

// settled is that nothing is left of any tunnel.
func settled(t *testing.T, w *world, hs ...*host) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	for _, h := range hs {
		entries, running, _ := h.InFlight()
		require.Zero(t, entries+running, "node %v", h.id[0])
		require.False(t, inUse(h, hs), "node %v", h.id[0])
	}
	require.Zero(t, w.net.Streams(), "streams left")
}

func rest() { time.Sleep(100 * time.Millisecond); synctest.Wait() }

func TestTunnelCarriesMessagesBothWaysAndCloses(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		var offered patterns.Open
		service := sh.peer(func(e *end, t *link.Turn, o patterns.Open) bool {
			o.Headers, o.Cluster = slices.Clone(o.Headers), slices.Clone(o.Cluster)
			offered = o
			e.onData = func(t *link.Turn, last bool, payload []byte) { e.tun.Data(t, last, append([]byte("re:"), payload...)) }
			e.tun.Accept(t, 1000, []byte("ah"), e)
			return true
		})
		a := ch.peer(nil).open(time.Second, 500)
		rest()
		require.Equal(t, "opened 1000 ah", a.story(t))
		require.Equal(t, "c oh", string(offered.Cluster)+" "+string(offered.Headers))
		require.EqualValues(t, 500, offered.Window)
		require.NotZero(t, offered.ID>>63)
		a.data(t, "one")
		a.data(t, "two")
		rest()
		b := <-service.tunnels
		a.finish()
		rest()
		b.finish()
		rest()
		require.Equal(t, "opened 1000 ah, data re:one true, data re:two true, finish", a.story(t))
		require.Equal(t, "data one true, data two true, finish", b.story(t))
	})
}

func TestHalfClosedTunnelGoesOnTheOtherWay(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(accepting(100))
		a := ch.peer(nil).open(-1, 65)
		a.finish() // before it is even open
		rest()
		b := <-service.tunnels
		b.data(t, "x")
		require.False(t, b.tun.Data(&b.turn, true, []byte("y")))
		rest()
		a.allow(70)
		rest()
		b.data(t, "yy")
		b.finish()
		rest()
		require.Equal(t, "opened 100 ah, data x true, data yy true, finish", a.story(t))
		require.Equal(t, "finish, allow 70", b.story(t))
		require.True(t, a.tun.Data(&a.turn, true, []byte("late")), "ignored: it has ended")
	})
}

func TestWhatIsAllowedWhileOpeningCounts(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(func(*end, *link.Turn, patterns.Open) bool { return true })
		a := ch.peer(nil).open(-1, 0)
		a.allow(80)
		require.False(t, a.tun.Data(&a.turn, true, nil), "nothing is allowed yet")
		rest()
		b := <-service.tunnels
		b.accept(0)
		rest()
		b.data(t, "hello")
		rest()
		require.Equal(t, "opened 0 ah, data hello true", a.story(t))
		a.abort(patterns.CodeOK)
		rest()
		require.Equal(t, "allow 80, aborted ok why", b.story(t))
	})
}

func TestRefusedTunnelTellsWhy(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(func(*end, *link.Turn, patterns.Open) bool { return true })
		for code, want := range map[patterns.Code]string{patterns.CodeFailed: "aborted failed why", patterns.CodeOverloaded: "aborted overloaded no member of the cluster takes it"} {
			a := ch.peer(nil).open(time.Second, 0)
			rest()
			b := <-service.tunnels
			b.abort(code)
			rest()
			require.Equal(t, want, a.story(t))
			require.Empty(t, b.story(t))
		}
	})
}

func TestTunnelThatNobodyTakes(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		a := ch.peer(nil).open(time.Second, 0)
		rest()
		require.Equal(t, "aborted no-service nobody serves the cluster", a.story(t))
		sh.peer(func(*end, *link.Turn, patterns.Open) bool { return false })
		rest()
		a = ch.peer(nil).open(time.Second, 0)
		rest()
		require.Equal(t, "aborted overloaded no member of the cluster takes it", a.story(t))
		a = ch.peer(nil).open(0, 0)
		require.Contains(t, a.story(t), "aborted timeout")
	})
}

func TestRefusedTunnelGoesToAnotherMember(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		hs := w.hosts(1, 2, 3)
		hs[0].peer(func(*end, *link.Turn, patterns.Open) bool { return false })
		hs[1].peer(func(*end, *link.Turn, patterns.Open) bool { return false })
		taker := hs[2].peer(accepting(7))
		for range 5 {
			a := hs[0].peer(nil).open(time.Second, 0)
			rest()
			require.Equal(t, "opened 7 ah", a.story(t))
			(<-taker.tunnels).abort(0)
		}
		settled(t, w, hs...)
	})
}

func TestUnansweredTunnelTimesOut(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(func(*end, *link.Turn, patterns.Open) bool { return true })
		began := time.Now()
		a := ch.peer(nil).open(500*time.Millisecond, 0)
		time.Sleep(499 * time.Millisecond)
		require.Empty(t, a.story(t))
		time.Sleep(2 * time.Millisecond)
		require.Equal(t, "aborted timeout the deadline has passed", a.story(t))
		require.Less(t, time.Since(began), 510*time.Millisecond)
		rest()
		b := <-service.tunnels
		b.accept(10)
		rest()
		require.Equal(t, "aborted timeout the deadline has passed", b.story(t))
	})
}

func TestAbortWhileOpeningReachesTheService(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(func(*end, *link.Turn, patterns.Open) bool { return true })
		a := ch.peer(nil).open(-1, 0)
		rest()
		a.abort(patterns.CodeCancelled)
		rest()
		b := <-service.tunnels
		b.accept(10)
		require.Equal(t, "aborted cancelled why", b.story(t))
		require.Empty(t, a.story(t))
	})
}

func TestAbortAtOnceLeavesNothing(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		sh.peer(accepting(10))
		a := ch.peer(nil).open(-1, 0)
		a.abort(patterns.CodeCancelled) // remote: while it is being dialled
		rest()
	})
}

func TestSessionThatClosesLosesItsTunnels(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service, client := sh.peer(accepting(100)), ch.peer(nil)
		a := client.open(time.Second, 0)
		rest()
		b := <-service.tunnels
		a.data(t, "x")
		service.close()
		rest()
		require.Contains(t, a.story(t), "aborted lost the session")
		require.NotContains(t, b.story(t), "aborted")
		service = sh.peer(accepting(100))
		rest()
		client.open(time.Second, 0)
		rest()
		b = <-service.tunnels
		client.close()
		rest()
		require.Contains(t, b.story(t), "aborted lost the session")
	})
}

func TestLostNodeBreaksItsTunnels(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		hs := w.hosts(1, 2)
		service := hs[1].peer(accepting(100))
		a := hs[0].peer(nil).open(time.Second, 0)
		rest()
		b := <-service.tunnels
		w.net.Kill(hs[1].id)
		rest()
		require.Contains(t, a.story(t), "aborted lost the tunnel is broken")
		require.Contains(t, b.story(t), "aborted lost the tunnel is broken")
		settled(t, w, hs...)
	})
}

func TestCrossingAborts(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(accepting(100))
		a := ch.peer(nil).open(time.Second, 0)
		rest()
		b := <-service.tunnels
		a.abort(1)
		b.abort(2)
		rest()
		require.Equal(t, "opened 100 ah", a.story(t))
		require.NotContains(t, b.story(t), "aborted failed")
	})
}

func TestAllowingTooMuchEndsTheTunnel(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(accepting(1))
		a := ch.peer(nil).open(time.Second, 1)
		rest()
		b := <-service.tunnels
		a.allow(1<<31 - 2)
		rest()
		require.Equal(t, "allow 2147483646", b.story(t))
		a.allow(1)
		rest()
		require.Contains(t, b.story(t), "aborted invalid")
		require.Contains(t, a.story(t), "aborted invalid")
	})
}

func TestDrainWaitsForTunnels(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(accepting(100))
		client := ch.peer(nil)
		a := client.open(time.Second, 100)
		rest()
		b := <-service.tunnels
		drained := false
		w.wg.Go(func() { drained = sh.Drain(w.ctx) == nil })
		rest()
		require.False(t, drained)
		c := client.open(time.Second, 0)
		rest()
		require.Contains(t, c.story(t), "aborted")
		a.data(t, "still")
		a.finish()
		b.finish()
		rest()
		require.True(t, drained)
		require.Equal(t, "data still true, finish", b.story(t))
	})
}

func TestStalledTunnelStopsNoOther(t *testing.T) {
	bothWays(t, func(t *testing.T, w *world, ch, sh *host) {
		service := sh.peer(accepting(65))
		client := ch.peer(nil)
		const many = 1000
		var as, bs []*end
		for range many {
			as = append(as, client.open(time.Minute, 0))
		}
		rest()
		for range many {
			bs = append(bs, <-service.tunnels)
		}
		for i, a := range as {
			a.data(t, "x")
			require.False(t, a.tun.Data(&a.turn, true, nil), "stalled")
			_ = i
		}
		rest()
		for _, b := range bs[1:] {
			b.allow(100)
		}
		rest()
		flowing := 0
		for _, a := range as {
			if a.tun.Data(&a.turn, true, []byte("y")) {
				flowing++
			}
			a.turn.End()
		}
		rest()
		require.Equal(t, many-1, flowing)
		client.close()
		rest()
		for _, b := range bs {
			require.Contains(t, b.story(t), "aborted lost")
		}
	})
}
