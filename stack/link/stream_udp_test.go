package link_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// An echoer answers every message of a stream, or counts the bytes.
type echoer struct {
	stream *link.Stream // nil: only counts
	bytes  atomic.Int64
	got    atomic.Int64
}

func (e *echoer) Received(t *link.Turn, msg []byte) {
	e.bytes.Add(int64(len(msg)))
	e.got.Add(1)
	if e.stream != nil {
		_ = e.stream.Send(t, nil, msg)
	}
}
func (*echoer) Finished()    {}
func (*echoer) Broken(error) {}

// startStreams runs a node that takes streams.
func startStreams(tb testing.TB, ip string, stream func(*link.Conn, *link.Stream) link.StreamHandler) node {
	tb.Helper()
	tr, err := link.New(link.Config{Network: linktest.NetworkOf(tb, linktest.Name, linktest.Key(tb)), Socket: listen(tb, ip)})
	require.NoError(tb, err)
	s := &sink{up: make(chan *link.Conn, 10), stream: stream}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, s) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return node{tr, s.up}
}

// keepAlive sends heartbeats on a link, as the layer above does, until the end of
// the test.
func keepAlive(tb testing.TB, c *link.Conn) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				_ = c.SendControl([]byte("heartbeat"))
			}
		}
	})
	tb.Cleanup(func() {
		close(stop)
		wg.Wait()
	})
}

func heapAndStacks() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// until waits for a condition of the real world.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for began := time.Now(); !ok(); runtime.Gosched() {
		require.Less(tb, time.Since(began), 60*time.Second, what)
	}
}

func TestTenThousandIdleStreamsOverUDP(t *testing.T) {
	const count = 10_000
	a := startStreams(t, "127.0.31.11", nil)
	b := startStreams(t, "127.0.31.12", func(_ *link.Conn, s *link.Stream) link.StreamHandler { return &echoer{stream: s} })
	c := connect(t, a, b)
	keepAlive(t, c)
	before := heapAndStacks()
	ends := make([]*echoer, count)
	streams := make([]*link.Stream, count)
	talk := func() {
		for i, s := range streams {
			var turn link.Turn
			require.NoError(t, s.Send(&turn, nil, make([]byte, 100)))
			turn.End()
			if i%100 == 99 { // the handshake of a tunnel, some at a time
				until(t, "an echo on every stream", func() bool { return ends[i].got.Load() > 0 })
			}
		}
	}
	for i := range streams {
		var err error
		ends[i] = new(echoer)
		streams[i], err = c.OpenStream(t.Context(), ends[i])
		require.NoError(t, err)
	}
	talk()
	until(t, "an echo on every stream", func() bool {
		for _, e := range ends {
			if e.got.Load() == 0 {
				return false
			}
		}
		return true
	})
	each := (heapAndStacks() - before) / count
	t.Logf("%d idle streams: %d bytes each, both ends", count, each)
	require.Less(t, each, uint64(40<<10))
}

func BenchmarkStreamBulk(b *testing.B) {
	counted := new(echoer)
	x := startStreams(b, "127.0.31.13", nil)
	y := startStreams(b, "127.0.31.14", func(*link.Conn, *link.Stream) link.StreamHandler { return counted })
	c := connect(b, x, y)
	keepAlive(b, c)
	s, err := c.OpenStream(b.Context(), new(echoer))
	require.NoError(b, err)
	msg := make([]byte, 32<<10)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	sent := int64(0)
	for b.Loop() {
		var turn link.Turn
		for sent-counted.got.Load() > 24 || s.Send(&turn, nil, msg) != nil { // the credit of the layer above
			runtime.Gosched()
		}
		turn.End()
		sent++
	}
	until(b, "everything arrives", func() bool { return counted.got.Load() == sent })
}
