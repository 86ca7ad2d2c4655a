package iris_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

// overSocket attaches a client and an echo service to a fake node through a Unix socket.
func overSocket(tb testing.TB) *iris.Connection {
	node := fakenode.New(fakenode.Config{})
	tb.Cleanup(node.Close)
	path := filepath.Join(tb.TempDir(), "node.sock")
	require.NoError(tb, node.Listen(path))
	dial := iris.WithDialer(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
	s, err := iris.Register(1, "echo", &handler{}, nil, dial)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Unregister()) })
	conn, err := iris.Connect(1, dial)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, conn.Close()) })
	return conn
}

func TestManyRequestsOverARealSocket(t *testing.T) {
	conn := overSocket(t)
	var wg sync.WaitGroup
	for worker := range 32 {
		wg.Go(func() {
			for i := range 100 {
				message := strings.Repeat(string(rune('a'+worker)), i*i)
				reply, err := conn.Request(t.Context(), "echo", []byte(message))
				if err != nil || string(reply) != message {
					t.Errorf("%d bytes for %d, %v", len(reply), len(message), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkRequest is a round trip from a client over a fake node to a service
// and back: client and service, their allocations included, and the node's.
func BenchmarkRequest(b *testing.B) {
	conn := overSocket(b)
	payload := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Request(b.Context(), "echo", payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequest64InFlight is the same with 64 requests at a time.
func BenchmarkRequest64InFlight(b *testing.B) {
	conn := overSocket(b)
	payload := make([]byte, 64)
	b.ReportAllocs()
	turns := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range turns {
				if _, err := conn.Request(b.Context(), "echo", payload); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	wg.Wait()
}
