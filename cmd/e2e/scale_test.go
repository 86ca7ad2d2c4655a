package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
)

func TestLesson06NestedRequestsAreAllAnswered(t *testing.T) {
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

// A holder keeps its tunnels open until their clients close them.
type holder struct{ service }

func (h *holder) HandleTunnel(t *iris.Tunnel) { _, _ = t.Recv(context.Background()) }

func TestLesson04TenThousandIdleTunnelsAreHeld(t *testing.T) {
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
