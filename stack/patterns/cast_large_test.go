package patterns_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// A large world has a node for each of the many subscribers of "t", which know a part of
// each other.
type large struct {
	*world
	hosts       []*host
	subscribers []*session

	mu     sync.Mutex // guards the fields below
	copies map[link.ID]int
	depth  map[link.ID]int
}

// inLargeWorld runs a story. A message takes a millisecond from node to node.
func inLargeWorld(t *testing.T, story func(t *testing.T, w *large)) {
	nodes := 4000
	if raceDetector {
		nodes = 400
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w := &large{world: &world{t: t, net: patternstest.New(), ctx: ctx}}
		w.net.Delay, w.net.Lag, w.net.Whole = time.Millisecond, 20*time.Millisecond, 100
		w.net.Refuse = w.count
		defer w.wg.Wait()
		defer cancel()
		for i, id := range randomIDs(rand.New(rand.NewPCG(1, 2)), nodes) {
			h := w.hostAt(patterns.Config{Seed: uint64(i) + 1}, id)
			s := h.client()
			s.port.Subscribe([]byte("t"))
			w.hosts, w.subscribers = append(w.hosts, h), append(w.subscribers, s)
		}
		synctest.Wait() // all are announced, and views are told once
		w.wg.Go(func() { w.net.Run(ctx) })
		time.Sleep(time.Second)
		story(t, w)
	})
}

// begin has copies and depth counted from a node.
func (w *large) begin(from *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copies, w.depth = make(map[link.ID]int), map[link.ID]int{from.id: 0}
}

func (w *large) count(from, to link.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copies[from]++
	if _, deeper := w.depth[to]; !deeper {
		w.depth[to] = w.depth[from] + 1
	}
	return nil
}

// most is how many copies a node has sent at most, and how deep the tree is.
func (w *large) most() (copies, depth int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.copies {
		copies = max(copies, c)
	}
	for _, d := range w.depth {
		depth = max(depth, d)
	}
	return copies, depth
}

func TestLargeGroupGetsEachMessageOnce(t *testing.T) {
	inLargeWorld(t, func(t *testing.T, w *large) {
		stranger := w.hostAt(patterns.Config{Seed: 1}, link.ID{7})
		publishers := []*session{w.subscribers[0], stranger.client(), w.subscribers[1]}
		for i, from := range []*host{w.hosts[0], stranger, w.hosts[1]} {
			w.begin(from)
			publishers[i].publish(numbered(1, 3)[i])
			time.Sleep(time.Second)
			copies, depth := w.most()
			t.Logf("%d nodes: %d copies from a node at most, depth %d", len(w.hosts), copies, depth)
			require.LessOrEqual(t, copies, 16)
			require.LessOrEqual(t, depth, 5)
		}
		for i, s := range w.subscribers {
			require.Equal(t, numbered(1, 3), s.got(), "node %d", i)
		}
		for _, h := range w.hosts {
			require.Zero(t, h.Dropped()["copy"]+h.Dropped()["unsent"])
		}
	})
}

func TestLargeGroupGetsMessagesWhileNodesDie(t *testing.T) {
	inLargeWorld(t, func(t *testing.T, w *large) {
		publisher, rng := w.subscribers[0], rand.New(rand.NewPCG(3, 4))
		dead := make(map[int]bool)
		const messages = 5
		w.begin(w.hosts[0])
		for i := range messages {
			publisher.publish(numbered(1, messages)[i])
			for range max(1, len(w.hosts)/100/messages) {
				time.Sleep(700 * time.Microsecond)
				victim := 1 + rng.IntN(len(w.hosts)-1)
				if !dead[victim] {
					dead[victim] = true
					w.net.Kill(w.hosts[victim].id)
				}
			}
		}
		time.Sleep(5 * time.Second)
		got, want, again, unsent := 0, 0, uint64(0), uint64(0)
		for i, s := range w.subscribers {
			heard := s.got()
			for j := 1; j < len(heard); j++ {
				require.Less(t, heard[j-1], heard[j], "node %d", i)
			}
			if !dead[i] {
				want += messages
				got += len(heard)
				again += w.hosts[i].Dropped()["copy"]
				unsent += w.hosts[i].Dropped()["unsent"]
			}
		}
		t.Logf("%d of %d nodes died: the living got %d of %d messages, and %d copies too many; %d were returned",
			len(dead), len(w.hosts), got, want, again, unsent)
		require.Positive(t, unsent, "views were late")
		require.GreaterOrEqual(t, got, want*99/100)
		require.NotEmpty(t, dead)
	})
}
