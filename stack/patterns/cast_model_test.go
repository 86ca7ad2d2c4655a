package patterns_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// TestEventsComeOnceInOrderToThoseWhoStay lets a random network subscribe,
// unsubscribe, publish and die, and checks what each session has heard.
func TestEventsComeOnceInOrderToThoseWhoStay(t *testing.T) {
	for seed := range uint64(20) {
		if *onlySeed != 0 {
			seed = *onlySeed - 1
		}
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
				m := &castModel{t: t, w: w, rng: rand.New(rand.NewPCG(seed+1, 0))}
				nodes := 14 + m.rng.IntN(20) // with and without a tree
				if seed%4 == 3 {
					nodes, w.net.Whole = 50+m.rng.IntN(30), 34 // views are cut
				}
				m.run(nodes)
			})
		})
		if t.Failed() {
			t.Fatalf("replay: go test -run TestEventsComeOnce ./stack/patterns -args -seed %d", seed+1)
		}
		if *onlySeed != 0 {
			return
		}
	}
}

type castModel struct {
	t        *testing.T
	w        *world
	rng      *rand.Rand
	hosts    []*host
	dead     map[link.ID]bool
	all      []*modelSubscriber
	sequence map[string]int // published, by publisher
}

// A modelSubscriber publishes too. Events are named "publisher sequence".
type modelSubscriber struct {
	*session
	host    *host
	name    string
	told    <-chan struct{} // of its subscription; nil: none
	expects map[string]int  // the last event before the subscription was effective, by publisher; nil: not (any more) effective
	stayed  bool            // has been subscribed since
}

func (m *castModel) run(nodes int) {
	m.dead, m.sequence = make(map[link.ID]bool), make(map[string]int)
	for _, name := range names(nodes) {
		m.hosts = append(m.hosts, m.w.host(name))
	}
	for _, h := range m.hosts {
		m.attach(h)
	}
	time.Sleep(time.Second)
	for range 800 {
		m.act()
		if m.rng.IntN(2) == 0 {
			time.Sleep(time.Duration(m.rng.IntN(3000)) * time.Microsecond)
		}
	}
	time.Sleep(5 * time.Second)
	synctest.Wait()
	stayed := 0
	for _, s := range m.all {
		if m.check(s) {
			stayed++
		}
	}
	require.Greater(m.t, stayed, 3, "sessions that were subscribed to the end")
}

func (m *castModel) act() {
	h := m.hosts[m.rng.IntN(len(m.hosts))]
	s := m.all[m.rng.IntN(len(m.all))]
	switch n := m.rng.IntN(100); {
	case m.dead[h.id] || m.dead[s.host.id]:
	case n < 3:
		m.attach(h)
	case n < 8 && s.told != nil:
		s.port.Unsubscribe([]byte("t"))
		s.told, s.stayed = nil, false
	case n == 8 && len(m.dead) < 3:
		m.dead[h.id] = true
		m.w.net.Kill(h.id)
	default:
		m.publish(s)
	}
	m.settle()
}

func (m *castModel) attach(h *host) {
	s := &modelSubscriber{session: h.client(), host: h, name: fmt.Sprint("session", len(m.all))}
	s.told = s.port.Subscribe([]byte("t"))
	m.all = append(m.all, s)
}

// settle notes which subscriptions have become effective.
func (m *castModel) settle() {
	for _, s := range m.all {
		if s.told == nil || s.expects != nil {
			continue
		}
		select {
		case <-s.told:
			s.expects, s.stayed = make(map[string]int), true
			for publisher, last := range m.sequence {
				s.expects[publisher] = last
			}
		default:
		}
	}
}

func (m *castModel) publish(s *modelSubscriber) {
	m.settle()
	m.sequence[s.name]++
	s.session.publish(fmt.Sprint(s.name, " ", m.sequence[s.name]))
}

// check judges what s has heard, and returns whether it has to be everything.
func (m *castModel) check(s *modelSubscriber) bool {
	heard := make(map[string]int)
	whole := s.stayed && !m.dead[s.host.id]
	for _, event := range s.got() {
		var publisher string
		var sequence int
		_, err := fmt.Sscan(event, &publisher, &sequence)
		require.NoError(m.t, err)
		last := heard[publisher]
		require.Greater(m.t, sequence, last, "%s heard %s after %d", s.name, event, last)
		if whole && !m.gone(publisher) {
			require.LessOrEqual(m.t, sequence, max(last, s.expects[publisher])+1, "%s missed some of %s", s.name, publisher)
		}
		heard[publisher] = sequence
	}
	for publisher, last := range m.sequence {
		if whole && !m.gone(publisher) && last > s.expects[publisher] {
			require.Equal(m.t, last, heard[publisher], "%s missed the last of %s (%d)", s.name, publisher, s.expects[publisher])
		}
	}
	return whole
}

// gone is whether the node of a session has died.
func (m *castModel) gone(name string) bool {
	for _, s := range m.all {
		if s.name == name {
			return m.dead[s.host.id]
		}
	}
	return false
}

var _ patterns.Sink = (*modelSubscriber)(nil)
