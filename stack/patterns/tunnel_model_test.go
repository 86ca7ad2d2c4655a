package patterns_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// TestTunnelsDeliverAPrefixAndEndOnce lets random sessions open, use and end
// tunnels on a random network, and checks what came out at each end.
func TestTunnelsDeliverAPrefixAndEndOnce(t *testing.T) {
	seeds := []uint64{*onlySeed}
	if *onlySeed == 0 {
		seeds = nil
		for seed := range uint64(20) {
			seeds = append(seeds, seed+1)
		}
	}
	endings := make(map[string]int)
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, time.Millisecond*time.Duration(seed%3), func(t *testing.T, w *world) {
				m := &tunnelModel{t: t, w: w, rng: rand.New(rand.NewPCG(seed, 1))}
				m.run()
				m.check(endings)
			})
		})
		if t.Failed() {
			t.Fatalf("replay: go test -run TestTunnelsDeliverAPrefix ./stack/patterns -args -seed %d", seed)
		}
	}
	if *onlySeed == 0 {
		for _, e := range []string{"clean", "own", "timeout", "no-service", "overloaded", "lost", "failed"} {
			require.Greater(t, endings[e], 10, "%s hardly happened: %v", e, endings)
		}
	}
}

type tunnelModel struct {
	t     *testing.T
	w     *world
	hosts []*host
	all   []*tunnelSession

	mu   sync.Mutex // guards the fields below
	rng  *rand.Rand
	ends []*modelEnd
}

type tunnelSession struct {
	session
	m      *tunnelModel
	host   *host
	closed bool
}

// A modelEnd is one end of a tunnel. The driver alone uses tun; what it sends is
// 0, 1, 2, … .
type modelEnd struct {
	s     *tunnelSession
	tun   *patterns.Tunnel
	name  string // of the tunnel
	asked bool

	mu       sync.Mutex // guards the fields below
	accepted bool       // driver: has accepted or was the one who asked
	open     bool
	credit   int
	sent     int
	got      int
	finished struct{ in, out bool }
	own      bool // ended by its own session
	aborted  []patterns.Code
	wrong    string
}

func (e *modelEnd) with(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.aborted) > 0 || e.finished.in && e.finished.out {
		e.wrong = "a call after the end"
	}
	do()
}

func (e *modelEnd) Opened(_ *link.Turn, window uint32, _ []byte) {
	e.with(func() { e.open, e.credit = true, int(window) })
}

func (e *modelEnd) Data(_ *link.Turn, last bool, payload []byte) {
	e.with(func() {
		if string(payload) != fmt.Sprint(e.got) || last != (e.got%3 == 0) || e.finished.in {
			e.wrong = fmt.Sprintf("got %q as number %d", payload, e.got)
		}
		e.got++
	})
}

func (e *modelEnd) Allow(_ *link.Turn, n uint32) { e.with(func() { e.credit += int(n) }) }
func (e *modelEnd) Finish(*link.Turn)            { e.with(func() { e.finished.in = true }) }
func (e *modelEnd) Aborted(_ *link.Turn, code patterns.Code, _ []byte) {
	e.with(func() { e.aborted = append(e.aborted, code) })
}

func (m *tunnelModel) int(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

func (m *tunnelModel) chance(percent int) bool { return m.int(100) < percent }

func (s *tunnelSession) Tunnel(_ *link.Turn, p *patterns.Tunnel, o patterns.Open) bool {
	if s.m.chance(20) {
		return false
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.ends = append(s.m.ends, &modelEnd{s: s, tun: p, name: string(o.Headers), credit: int(o.Window)})
	return true
}

func (m *tunnelModel) run() {
	m.w.net.Unreachable = func(from, to link.ID) bool { return from[0]+to[0] == 5 } // 1 and 4, 2 and 3
	m.w.net.Refuse = func(_, _ link.ID) error {
		if m.chance(3) {
			return errors.New("full")
		}
		return nil
	}
	for name := range 4 {
		m.hosts = append(m.hosts, m.w.host(byte(name+1)))
	}
	for i := range 1500 {
		m.act(i)
		if m.chance(40) {
			time.Sleep(time.Duration(m.int(4000)) * time.Microsecond)
		}
	}
	time.Sleep(5 * time.Second)
	for _, s := range m.all {
		s.close()
	}
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

func (m *tunnelModel) act(i int) {
	m.mu.Lock()
	count := len(m.ends)
	m.mu.Unlock()
	switch n := m.int(1000); {
	case len(m.all) < 6 || n < 20:
		m.attach()
	case n < 130 || count == 0:
		if s := m.all[m.int(len(m.all))]; !s.closed {
			s.open(fmt.Sprint("tunnel ", i))
		}
	case n < 140:
		m.all[m.int(len(m.all))].close()
	case n < 143 && len(m.hosts) > 2:
		m.kill()
	default:
		m.mu.Lock()
		e := m.ends[max(0, len(m.ends)-1-m.rng.IntN(12))]
		m.mu.Unlock()
		if !e.s.closed {
			e.act()
			e.s.turn.End()
		}
	}
}

func (m *tunnelModel) attach() {
	s := &tunnelSession{m: m, host: m.hosts[m.int(len(m.hosts))]}
	s.port = s.host.Attach(s)
	if m.chance(50) {
		s.port.Serve([]string{"a", "b"}[m.int(2)])
	}
	m.all = append(m.all, s)
}

func (m *tunnelModel) kill() {
	i := m.int(len(m.hosts))
	dead := m.hosts[i]
	m.hosts = append(m.hosts[:i:i], m.hosts[i+1:]...)
	m.w.net.Kill(dead.id)
	for _, s := range m.all {
		if s.host == dead {
			s.close()
		}
	}
}

func (s *tunnelSession) close() {
	if !s.closed {
		s.closed = true
		s.port.Close(&s.turn)
		s.turn.End()
	}
}

func (s *tunnelSession) open(name string) {
	m := s.m
	e := &modelEnd{s: s, name: name, asked: true, accepted: true}
	budget := time.Duration(m.int(60)) * time.Millisecond
	cluster := []string{"a", "b", "a", "b", "nobody"}[m.int(5)]
	e.tun = s.port.Open(&s.turn, patterns.Open{Cluster: []byte(cluster), Budget: budget, Window: uint32(m.int(500)), Headers: []byte(name)}, e)
	m.mu.Lock()
	m.ends = append(m.ends, e)
	m.mu.Unlock()
	s.turn.End()
}

// act does one thing that the session may do.
func (e *modelEnd) act() {
	t, m := &e.s.turn, e.s.m
	if !e.accepted {
		e.accepted = true
		if m.chance(20) {
			e.abort([]patterns.Code{patterns.CodeFailed, patterns.CodeOverloaded}[m.int(2)])
			return
		}
		e.mu.Lock()
		e.open = true
		e.mu.Unlock()
		e.tun.Accept(t, uint32(m.int(500)), nil, e)
		return
	}
	switch n := m.int(100); {
	case n < 60:
		e.send()
	case n < 85:
		e.tun.Allow(t, uint32(m.int(300)))
	case n < 97:
		e.mu.Lock()
		e.finished.out = true
		e.mu.Unlock()
		e.tun.Finish(t)
	default:
		e.abort(patterns.CodeFailed)
	}
}

func (e *modelEnd) send() {
	e.mu.Lock()
	text := fmt.Sprint(e.sent)
	may := e.open && !e.finished.out && e.credit >= len(text)+64
	if may {
		e.credit -= len(text) + 64
		e.sent++
	}
	number := e.sent - 1
	e.mu.Unlock()
	if may && !e.tun.Data(&e.s.turn, number%3 == 0, []byte(text)) {
		e.s.m.t.Errorf("%s: an allowed data was denied", e.name)
	}
}

func (e *modelEnd) abort(c patterns.Code) {
	e.mu.Lock()
	e.own = true
	e.mu.Unlock()
	e.tun.Abort(&e.s.turn, c, nil)
}

// check judges what came out of each end.
func (m *tunnelModel) check(endings map[string]int) {
	t := m.t
	taken := make(map[string]*modelEnd) // the side that was asked and has accepted
	for _, e := range m.ends {
		if !e.asked && e.open {
			require.Nil(t, taken[e.name], "%s was accepted twice", e.name)
			taken[e.name] = e
		}
	}
	for _, e := range m.ends {
		require.Empty(t, e.wrong, e.name)
		require.LessOrEqual(t, len(e.aborted), 1, e.name)
		clean := e.finished.in && e.finished.out && len(e.aborted) == 0
		switch {
		case clean:
			endings["clean"]++
		case e.own || e.s.closed && len(e.aborted) == 0:
			endings["own"]++
		case e.accepted:
			require.Len(t, e.aborted, 1, "%s has not ended", e.name)
		}
		for _, c := range e.aborted {
			endings[c.String()]++
		}
		if !e.asked {
			continue
		}
		other := taken[e.name]
		if other == nil {
			require.Zero(t, e.got, e.name)
			continue
		}
		require.LessOrEqual(t, e.got, other.sent, e.name)
		require.LessOrEqual(t, other.got, e.sent, e.name)
		if e.finished.in {
			require.Equal(t, other.sent, e.got, "%s finished, and something is missing", e.name)
		}
		if other.finished.in {
			require.Equal(t, e.sent, other.got, "%s finished, and something is missing", e.name)
		}
	}
	for _, h := range m.hosts {
		_, running, _ := h.InFlight()
		require.Zero(t, running, "node %v", h.id[0])
		require.False(t, inUse(h, m.hosts), "node %v", h.id[0])
	}
}
