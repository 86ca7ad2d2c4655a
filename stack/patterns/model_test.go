package patterns_test

import (
	"errors"
	"flag"
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

var onlySeed = flag.Uint64("seed", 0, "the one seed of the model test to run")

// TestEveryRequestEndsOnceAndRunsAtMostOnce lets a random network do random
// things and checks the history of every request.
func TestEveryRequestEndsOnceAndRunsAtMostOnce(t *testing.T) {
	seeds := []uint64{*onlySeed}
	if *onlySeed == 0 {
		seeds = nil
		for seed := range uint64(30) {
			seeds = append(seeds, seed+1)
		}
	}
	codes := make(map[patterns.Code]int)
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
				m := &model{t: t, w: w, rng: rand.New(rand.NewPCG(seed, 0)), history: make(map[string]*record)}
				m.run()
				m.check(codes)
			})
		})
		if t.Failed() {
			t.Fatalf("replay: go test -run TestEveryRequestEndsOnce ./stack/patterns -args -seed %d", seed)
		}
	}
	if *onlySeed == 0 {
		for _, c := range []patterns.Code{0, 1, 2, 3, 4, 5, 6} {
			require.Greater(t, codes[c], 20, "%v hardly happened: %v", c, codes)
		}
	}
}

// A record is the history of one request, named by its payload.
type record struct {
	began    time.Time
	budget   time.Duration
	client   *modelSession
	executed int
	outcomes []patterns.Code
	ended    time.Time
}

type model struct {
	t     *testing.T
	w     *world
	hosts []*host
	all   []*modelSession

	mu      sync.Mutex // guards the fields below
	rng     *rand.Rand
	history map[string]*record
	sends   int
}

func (m *model) chance(percent int) bool { return m.int(100) < percent }

func (m *model) int(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

// A modelSession is a client, and a service if it serves.
type modelSession struct {
	m      *model
	host   *host
	port   *patterns.Port
	serves bool
	closed bool // used by the driver only

	mu     sync.Mutex
	credit int
	turn   link.Turn // of the driver
	names  map[uint64]string
	nextID uint64
}

func (m *model) run() {
	m.w.net.Unreachable = func(from, to link.ID) bool { return (from[0]+to[0])%4 == 0 } // 1 and 3, 3 and 5
	m.w.net.Refuse = func(_, _ link.ID) error {
		if m.chance(3) {
			return errors.New("full")
		}
		return nil
	}
	for name := range 5 {
		m.hosts = append(m.hosts, m.w.hostOf(patterns.Config{Limit: 40}, byte(name+1)))
	}
	for range 600 {
		m.act()
		if m.chance(50) {
			time.Sleep(time.Duration(m.int(4000)) * time.Microsecond)
		}
	}
	time.Sleep(5 * time.Second)
	for _, s := range m.all {
		if s.serves && !s.closed {
			s.close()
		}
	}
	time.Sleep(15 * time.Second)
	synctest.Wait()
}

func (m *model) act() {
	if len(m.all) < 4 || m.chance(8) {
		m.attach()
		return
	}
	s := m.all[m.int(len(m.all))]
	if s.closed {
		return
	}
	switch n := m.int(1000); {
	case n < 900:
		for range 1 + m.int(4) {
			s.request()
		}
	case n < 950:
		s.port.Cancel(&s.turn, s.nextID-uint64(m.int(3)))
	case n < 970:
		s.port.Withdraw()
	case n < 985:
		s.close()
	case n < 990 && len(m.hosts) > 3:
		m.kill()
	}
	s.turn.End()
}

func (m *model) attach() {
	s := &modelSession{m: m, host: m.hosts[m.int(len(m.hosts))], credit: m.int(6), names: make(map[uint64]string)}
	s.port = s.host.Attach(s)
	if s.serves = m.chance(60); s.serves {
		s.port.Serve([]string{"a", "b"}[m.int(2)])
	}
	m.all = append(m.all, s)
}

// kill ends a host and with it its sessions.
func (m *model) kill() {
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

func (s *modelSession) close() {
	s.closed = true
	s.port.Close(&s.turn)
	s.turn.End()
}

func (s *modelSession) request() {
	m := s.m
	budget := time.Duration(m.int(200)) * time.Millisecond
	if m.chance(20) {
		budget = -1
	}
	cluster := []string{"a", "b", "a", "b", "nobody"}[m.int(5)]
	s.nextID++
	m.mu.Lock()
	m.sends++
	name := fmt.Sprint("request ", m.sends)
	m.history[name] = &record{began: time.Now(), budget: budget, client: s}
	m.mu.Unlock()
	s.mu.Lock()
	s.names[s.nextID] = name
	s.mu.Unlock()
	s.port.Request(&s.turn, patterns.Request{ID: s.nextID, Cluster: []byte(cluster), Budget: budget, Payload: []byte(name)})
}

func (s *modelSession) Request(_ *link.Turn, r patterns.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credit <= 0 {
		return false
	}
	s.credit--
	s.m.mu.Lock()
	s.m.history[string(r.Payload)].executed++
	s.m.mu.Unlock()
	if s.m.chance(5) {
		return true // never answered
	}
	reply := patterns.Reply{ID: r.ID, Payload: append([]byte(nil), r.Payload...)}
	if s.m.chance(20) {
		reply.Code = patterns.CodeFailed
	}
	time.AfterFunc(time.Duration(s.m.int(120))*time.Millisecond*time.Duration(s.m.int(2)), func() {
		var t link.Turn
		s.port.Reply(&t, reply)
		t.End()
		s.mu.Lock()
		s.credit++
		s.mu.Unlock()
	})
	return true
}

func (s *modelSession) Reply(_ *link.Turn, r patterns.Reply) {
	s.mu.Lock()
	name := s.names[r.ID]
	s.mu.Unlock()
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	record := s.m.history[name]
	record.outcomes = append(record.outcomes, r.Code)
	record.ended = time.Now()
	if r.Code == patterns.CodeOK && string(r.Payload) != name {
		s.m.t.Errorf("%s: got the reply to %q", name, r.Payload)
	}
}

func (s *modelSession) Cancel(*link.Turn, uint64)                   {}
func (s *modelSession) Broadcast(*link.Turn, patterns.Message) bool { return true }
func (s *modelSession) Event(*link.Turn, patterns.Message) bool     { return true }

func (*modelSession) Tunnel(*link.Turn, *patterns.Tunnel, patterns.Open) bool { return false }

// check judges the history.
func (m *model) check(codes map[patterns.Code]int) {
	t := m.t
	for name, r := range m.history {
		require.LessOrEqual(t, r.executed, 1, "%s: %v", name, r.outcomes)
		if r.client.closed {
			require.LessOrEqual(t, len(r.outcomes), 1, name)
		} else {
			require.Len(t, r.outcomes, 1, "%s: executed %d", name, r.executed)
		}
		for _, c := range r.outcomes {
			codes[c]++
			switch c {
			case patterns.CodeOK, patterns.CodeFailed:
				require.Equal(t, 1, r.executed, "%s: %v", name, c)
			case patterns.CodeNoService, patterns.CodeOverloaded:
				require.Zero(t, r.executed, "%s: %v", name, c)
			}
			took := r.ended.Sub(r.began)
			if r.budget >= 0 {
				require.LessOrEqual(t, took, r.budget+6*time.Millisecond, "%s: %v", name, c)
			}
			if c == patterns.CodeTimeout {
				require.GreaterOrEqual(t, took, r.budget, name)
			}
		}
	}
	for _, h := range m.hosts {
		require.False(t, inUse(h, m.hosts), "node %v", h.id[0])
		entries, running, parked := h.InFlight()
		require.Zero(t, entries+running+parked, "node %v holds %d entries, %d running, %d bytes", h.id[0], entries, running, parked)
	}
}
