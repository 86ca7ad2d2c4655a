package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
)

func TestNestedRequestsAreAllAnswered(t *testing.T) {
	const requests, atOnce = 10_000, 500
	c := startCluster(t, 3)
	// Each level asks the next one, on another node, from within its handler.
	for level := range 3 {
		conn := connect(t, c.Nodes[level])
		next := fmt.Sprintf("level-%d", level+1)
		handle := func(request []byte) ([]byte, error) { return conn.Request(t.Context(), next, request) }
		if level == 2 {
			handle = echo
		}
		serve(t, c.Nodes[(level+1)%3], fmt.Sprintf("level-%d", level), handle)
	}
	conn := connect(t, c.Nodes[2])
	var wg sync.WaitGroup
	var answered atomic.Int64
	began := time.Now()
	for range atOnce {
		wg.Go(func() {
			for range requests / atOnce {
				reply, err := conn.Request(t.Context(), "level-0", []byte("down and up"))
				if err == nil && string(reply) == "down and up" {
					answered.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests through three levels in %v", requests, time.Since(began))
	require.EqualValues(t, requests, answered.Load())
}

func TestEqualMembersGetEqualShares(t *testing.T) {
	const requests, members, atOnce = 40_000, 4, 32
	c := startCluster(t, members+1)
	var counts [members]atomic.Int64
	for i := range members {
		serve(t, c.Nodes[i], "fair", func(request []byte) ([]byte, error) {
			counts[i].Add(1)
			return request, nil
		})
	}
	conn := connect(t, c.Nodes[members])
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for range requests / atOnce {
				if _, err := conn.Request(t.Context(), "fair", nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range members {
		share := float64(counts[i].Load()) * members / requests
		t.Logf("member %d got %.3f of its share", i, share)
		require.InDelta(t, 1, share, 0.10, "0.05 on a quiet machine: a member that waits for a processor has more in flight, and gets less")
	}
}

// A holder keeps its tunnels open until their clients close them.
type holder struct{ service }

func (h *holder) HandleTunnel(t *iris.Tunnel) { _, _ = t.Recv(context.Background()) }

func TestTenThousandIdleTunnels(t *testing.T) {
	const tunnels, atOnce = 10_000, 50
	c := startCluster(t, 2)
	s, err := iris.Register(c.Nodes[0].Port, "hold", &holder{}, nil)
	require.NoError(t, err)
	serve(t, c.Nodes[0], "echo", echo)
	conn := connect(t, c.Nodes[1])
	began := time.Now()
	var mu sync.Mutex
	var open []*iris.Tunnel
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for range tunnels / atOnce {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				tunnel, err := conn.Tunnel(ctx, "hold")
				cancel()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				open = append(open, tunnel)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d tunnels opened in %v", len(open), time.Since(began))
	require.Len(t, open, tunnels)
	_, err = conn.Request(t.Context(), "echo", []byte("still there"))
	require.NoError(t, err)
	for _, tunnel := range open {
		require.NoError(t, tunnel.Abort("done"))
	}
	require.NoError(t, s.Unregister())
}

// A listener notes the events that it gets, in order.
type listener struct {
	next  atomic.Int64
	wrong atomic.Int64
	block <-chan struct{} // nil: it does not
}

func (l *listener) HandleEvent(event []byte) {
	if l.block != nil {
		<-l.block
		return
	}
	if int64(binary.BigEndian.Uint64(event)) != l.next.Add(1)-1 {
		l.wrong.Add(1)
	}
}

func TestSubscriberThatStopsHarmsNobodyElse(t *testing.T) {
	const healthy, events, burst = 10, 20_000, 100
	c := startCluster(t, 2)
	block := make(chan struct{})
	stuck := connect(t, c.Nodes[0])
	t.Cleanup(func() { close(block) })
	require.NoError(t, stuck.Subscribe(t.Context(), "news", &listener{block: block}, nil))
	var listeners [healthy]listener
	for i := range listeners {
		require.NoError(t, connect(t, c.Nodes[i%2]).Subscribe(t.Context(), "news", &listeners[i], nil))
	}
	conn := connect(t, c.Nodes[1])
	ticker := time.NewTicker(5 * time.Millisecond) // 20,000 a second
	defer ticker.Stop()
	for i := range uint64(events) {
		if i%burst == 0 {
			<-ticker.C
		}
		require.NoError(t, conn.Publish(t.Context(), "news", binary.BigEndian.AppendUint64(nil, i)))
	}
	require.Eventually(t, func() bool {
		for i := range listeners {
			if listeners[i].next.Load() < events {
				return false
			}
		}
		return true
	}, patience, 10*time.Millisecond)
	for i := range listeners {
		require.Zero(t, listeners[i].wrong.Load(), "listener %d: out of order, or missed", i)
	}
	s, err := c.Nodes[0].Status(t.Context())
	require.NoError(t, err)
	missed := uint64(0)
	for _, client := range s.Clients {
		missed += client.Dropped["event"]
	}
	require.Positive(t, missed, "the slow one is named")
}
