package e2e

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

// A tally counts how requests ended.
type tally struct {
	mu       sync.Mutex // guards the fields below
	answered int
	failed   map[error]int
	slowest  time.Duration // of the failed ones
	lastFail time.Time     // when the last failed one was sent
}

// steadily sends requests at a steady rate until the time is over, each with a
// deadline of its own, and waits for all outcomes.
func steadily(t *testing.T, conn *iris.Connection, rate int, duration time.Duration) *tally {
	t.Helper()
	result := &tally{failed: map[error]int{}}
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	end := time.After(duration)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-end:
			return result
		case <-ticker.C:
			wg.Go(func() { result.request(t.Context(), conn) })
		}
	}
}

func (r *tally) request(ctx context.Context, conn *iris.Connection) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began := time.Now()
	_, err := conn.Request(ctx, "work", []byte("x"))
	took := time.Since(began)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.answered++
		return
	}
	r.slowest = max(r.slowest, took)
	if r.lastFail.Before(began) {
		r.lastFail = began
	}
	for _, typed := range []error{iris.ErrLost, iris.ErrTimeout, iris.ErrNoService, iris.ErrOverloaded} {
		if errors.Is(err, typed) {
			r.failed[typed]++
			return
		}
	}
	r.failed[err]++
}

// slowly replies after a while, so that some requests are always in flight.
func slowly(request []byte) ([]byte, error) {
	<-time.After(20 * time.Millisecond)
	return request, nil
}

func TestKilledNodeFailsOnlyWhatWasInFlightToIt(t *testing.T) {
	c := startCluster(t, 3)
	serve(t, c.Nodes[0], "work", slowly)
	serve(t, c.Nodes[1], "work", slowly)
	conn := connect(t, c.Nodes[2])

	var killed time.Time
	kill := time.AfterFunc(time.Second, func() {
		killed = time.Now()
		_ = c.Nodes[0].Signal(os.Kill)
	})
	defer kill.Stop()
	result := steadily(t, conn, 200, 3*time.Second)

	t.Logf("answered %d, failed %v, slowest failure %v, last failed one sent %v after the kill",
		result.answered, result.failed, result.slowest, result.lastFail.Sub(killed))
	require.Greater(t, result.answered, 300)
	for err := range result.failed {
		require.ErrorIs(t, err, iris.ErrLost)
	}
	// It is less than a second, but a node that is late itself, on a busy machine, gives others more time.
	require.Less(t, result.slowest, 2*time.Second)
	require.Less(t, result.lastFail.Sub(killed), 2*time.Second)
}

func TestTerminatedNodeFailsNothing(t *testing.T) {
	c := startCluster(t, 3)
	serve(t, c.Nodes[0], "work", slowly)
	serve(t, c.Nodes[1], "work", slowly)
	conn := connect(t, c.Nodes[2])

	term := time.AfterFunc(time.Second, func() { _ = c.Nodes[0].Signal(syscall.SIGTERM) })
	defer term.Stop()
	result := steadily(t, conn, 200, 2*time.Second)

	t.Logf("answered %d, failed %v", result.answered, result.failed)
	require.Empty(t, result.failed)
	require.Greater(t, result.answered, 200)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := c.Nodes[0].Wait(ctx)
	require.NoError(t, err)
	require.Zero(t, code)
}

func TestTerminatedNodeWithAnOpenTunnelIsNoMemberAtOnceAndEnds(t *testing.T) {
	c := startCluster(t, 2)
	// One that would go on for ever, as a member of the node that ends.
	s, err := iris.Register(c.Nodes[0].Port, "hold", &holder{}, nil, iris.WithLogger(quiet), iris.WithReconnect(-1))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Unregister() })
	conn := connect(t, c.Nodes[1])
	tunnel, err := conn.Tunnel(t.Context(), "hold")
	require.NoError(t, err)

	began := time.Now()
	require.NoError(t, c.Nodes[0].Signal(syscall.SIGTERM))
	_, err = c.Nodes[1].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return s.Members("hold") == 0 })
	require.NoError(t, err)
	require.Less(t, time.Since(began), 5*time.Second, "long before the tunnel is cut off")
	_, err = conn.Request(t.Context(), "hold", nil)
	require.ErrorIs(t, err, iris.ErrNoService)

	_, err = tunnel.Recv(within(patience))
	require.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := c.Nodes[0].Wait(ctx)
	require.NoError(t, err)
	require.Zero(t, code)
	t.Logf("ended after %v, the tunnel with: %v", time.Since(began), tunnel.Send(within(patience), nil))
}

func TestLesson14ServiceThatDiesFailsItsRequestsAtOnce(t *testing.T) {
	c := startCluster(t, 2)
	started := make(chan struct{})
	block := make(chan struct{})
	defer close(block)
	dying := serve(t, c.Nodes[0], "work", func([]byte) ([]byte, error) {
		close(started)
		<-block
		return nil, nil
	})
	conn := connect(t, c.Nodes[1])
	go func() {
		<-started
		dying.Abort()
	}()
	began := time.Now()
	_, err := conn.Request(t.Context(), "work", nil)
	require.ErrorIs(t, err, iris.ErrLost)
	require.Less(t, time.Since(began), time.Second)
}
