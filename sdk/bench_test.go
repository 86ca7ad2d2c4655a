package iris_test

import (
	"context"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

// overSocket attaches a client and an echo service to a fake node through a Unix socket.
func overSocket(tb testing.TB) *iris.Connection { return toService(tb, &handler{}) }

// toService is overSocket for a service of the test's own, named "service".
func toService(tb testing.TB, h iris.ServiceHandler) *iris.Connection {
	node := fakenode.New(fakenode.Config{})
	tb.Cleanup(node.Close)
	path := filepath.Join(tb.TempDir(), "node.sock")
	require.NoError(tb, node.Listen(path))
	dial := iris.WithDialer(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	})
	s, err := iris.Register(1, "service", h, nil, dial)
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
				reply, err := conn.Request(t.Context(), "service", []byte(message))
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
		if _, err := conn.Request(b.Context(), "service", payload); err != nil {
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
				if _, err := conn.Request(b.Context(), "service", payload); err != nil {
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

// BenchmarkEvent128 is an event from a publisher over a fake node to a subscriber,
// all in one process.
func BenchmarkEvent128(b *testing.B) {
	conn := overSocket(b)
	var got atomic.Int64
	require.NoError(b, conn.Subscribe(b.Context(), "t", topicFunc(func([]byte) { got.Add(1) }), nil))
	event := make([]byte, 128)
	sent := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for sent-got.Load() > 8192 { // what is beyond the credit is dropped
			runtime.Gosched()
		}
		if err := conn.Publish(b.Context(), "t", event); err != nil {
			b.Fatal(err)
		}
		sent++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkTunnel64K is messages of 64 KiB through a tunnel, one way.
func BenchmarkTunnel64K(b *testing.B) { benchmarkTunnel(b, 64<<10) }

// BenchmarkTunnel128 is small messages through a tunnel, one way.
func BenchmarkTunnel128(b *testing.B) { benchmarkTunnel(b, 128) }

func benchmarkTunnel(b *testing.B, size int) {
	conn := toService(b, &handler{tunnel: func(t *iris.Tunnel) {
		for {
			if _, err := t.Recv(context.Background()); err != nil {
				return
			}
		}
	}})
	tunnel, err := conn.Tunnel(b.Context(), "service")
	require.NoError(b, err)
	message := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if err := tunnel.Send(b.Context(), message); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, tunnel.Close())
}

// BenchmarkPublish is the publisher's part alone: nobody subscribes.
func BenchmarkPublish(b *testing.B) {
	conn := overSocket(b)
	event := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		if err := conn.Publish(b.Context(), "t", event); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEventWithHeaders is BenchmarkEvent128 with a header, which is handled.
func BenchmarkEventWithHeaders(b *testing.B) {
	conn := overSocket(b)
	h := new(eventCounter)
	require.NoError(b, conn.Subscribe(b.Context(), "t", h, nil))
	event, trace := make([]byte, 128), iris.WithHeaders(map[string]string{"traceparent": "00-4bf9-00f0-01"})
	sent := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for sent-h.got.Load() > 8192 { // what is beyond the credit is dropped
			runtime.Gosched()
		}
		if err := conn.Publish(b.Context(), "t", event, trace); err != nil {
			b.Fatal(err)
		}
		sent++
	}
}

type eventCounter struct{ got atomic.Int64 }

func (c *eventCounter) HandleEvent([]byte)               {}
func (c *eventCounter) HandleEventMessage(*iris.Message) { c.got.Add(1) }

// BenchmarkBroadcast128 is a broadcast to a cluster of one member.
func BenchmarkBroadcast128(b *testing.B) {
	var got atomic.Int64
	conn := toService(b, &handler{broadcast: func([]byte) { got.Add(1) }})
	message := make([]byte, 128)
	sent := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for sent-got.Load() > 8192 { // what is beyond the credit is dropped
			runtime.Gosched()
		}
		if err := conn.Broadcast(b.Context(), "service", message); err != nil {
			b.Fatal(err)
		}
		sent++
	}
}
