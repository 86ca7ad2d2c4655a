package link_test

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// A node on a real socket.
type node struct {
	*link.Transport
	up chan *link.Conn
}

// A sink hands Up to a channel and messages to a function.
type sink struct {
	up      chan *link.Conn
	message func(t *link.Turn, c *link.Conn, msg []byte)
	control func(c *link.Conn, msg []byte)
	stream  func(c *link.Conn, s *link.Stream) link.StreamHandler
}

func (s *sink) Up(c *link.Conn) { s.up <- c }
func (s *sink) Control(c *link.Conn, msg []byte) {
	if s.control != nil {
		s.control(c, msg)
	}
}
func (s *sink) Message(t *link.Turn, c *link.Conn, msg []byte)          { s.message(t, c, msg) }
func (*sink) Down(*link.Conn, error)                                    {}
func (s *sink) Stream(c *link.Conn, st *link.Stream) link.StreamHandler { return s.stream(c, st) }

// listen binds a socket on a loopback address of this test.
func listen(tb testing.TB, ip string) *net.UDPConn {
	tb.Helper()
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
	require.NoError(tb, err)
	return socket
}

// start runs a node until the end of the test.
func start(tb testing.TB, ip string, message func(t *link.Turn, c *link.Conn, msg []byte)) node {
	tb.Helper()
	tr, err := link.New(link.Config{Network: linktest.NetworkOf(tb, linktest.Name, linktest.Key(tb)), Socket: listen(tb, ip)})
	require.NoError(tb, err)
	s := &sink{up: make(chan *link.Conn, 10), message: message}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, s) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return node{tr, s.up}
}

// connect links a to b; it dials until b runs.
func connect(tb testing.TB, a, b node) *link.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		err := a.Dial(ctx, b.ID(), b.Addr())
		if err == nil {
			return <-a.up
		}
		require.NoError(tb, ctx.Err(), "%v", err)
		runtime.Gosched()
	}
}

func TestLinkOverUDPUsesOffload(t *testing.T) {
	const count = 2000
	var got atomic.Int64
	all := make(chan struct{})
	a := start(t, "127.0.31.1", nil)
	b := start(t, "127.0.31.2", func(_ *link.Turn, _ *link.Conn, msg []byte) {
		if len(msg) == 5000 && got.Add(1) == count {
			close(all)
		}
	})
	c := connect(t, a, b)
	require.Equal(t, b.Addr(), c.Addr())
	if runtime.GOOS == "linux" {
		require.True(t, link.SegmentationOffload(c), "GSO is on although the socket is wrapped")
	}
	var turn link.Turn
	msg := make([]byte, 5000)
	for i := range uint64(count) {
		for c.Send(&turn, i, nil, msg) != nil {
			turn.End()
			runtime.Gosched()
		}
	}
	turn.End()
	select {
	case <-all:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d of %d messages", got.Load(), count)
	}
	require.Positive(t, c.RTT())
}

func TestProbesOverUDP(t *testing.T) {
	a, b := start(t, "127.0.31.3", nil), start(t, "127.0.31.4", nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	// Who has probed gets the answer, even if it comes before he reads.
	require.NoError(t, b.WriteProbe([]byte("\x02probe"), a.Addr()))
	require.NoError(t, a.WriteProbe([]byte("\x02answer"), b.Addr()))
	c := connect(t, a, b) // what was sent before has arrived
	require.Equal(t, b.Addr(), c.Addr())
	buf := make([]byte, 100)
	n, from, err := b.ReadProbe(ctx, buf)
	require.NoError(t, err)
	require.Equal(t, "\x02answer", string(buf[:n]))
	require.Equal(t, a.Addr(), from)
}

func TestRunsEndFreesThePort(t *testing.T) {
	socket := listen(t, "127.0.31.5")
	addr := socket.LocalAddr().(*net.UDPAddr)
	tr, err := link.New(link.Config{Network: linktest.NetworkOf(t, linktest.Name, linktest.Key(t)), Socket: socket})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, tr.Run(ctx, new(linktest.Recorder)))
	again, err := net.ListenUDP("udp4", addr)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func benchmarkLink(b *testing.B, size int) {
	var got atomic.Int64
	progress := make(chan struct{}, 1)
	from := start(b, "127.0.31.11", nil)
	to := start(b, "127.0.31.12", func(_ *link.Turn, _ *link.Conn, _ []byte) {
		got.Add(1)
		select {
		case progress <- struct{}{}:
		default:
		}
	})
	c := connect(b, from, to)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	var turn link.Turn
	msg := make([]byte, size)
	sent := int64(0)
	for b.Loop() {
		for c.Send(&turn, 0, nil, msg) != nil {
			turn.End()
			<-progress
		}
		if sent++; sent%32 == 0 {
			turn.End() // a reader's turn is about that long
		}
	}
	turn.End()
	for got.Load() < sent {
		<-progress
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkLink64B(b *testing.B)   { benchmarkLink(b, 64) }
func BenchmarkLink1KiB(b *testing.B)  { benchmarkLink(b, 1<<10) }
func BenchmarkLink64KiB(b *testing.B) { benchmarkLink(b, 64<<10) }

// BenchmarkRoundTrip is one message at a time, there and back.
func BenchmarkRoundTrip64B(b *testing.B) {
	back := make(chan struct{}, 1)
	a := start(b, "127.0.31.13", func(*link.Turn, *link.Conn, []byte) { back <- struct{}{} })
	echo := start(b, "127.0.31.14", func(t *link.Turn, c *link.Conn, msg []byte) { _ = c.Send(t, 0, nil, msg) })
	c := connect(b, a, echo)
	var turn link.Turn
	msg := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(&turn, 0, nil, msg); err != nil {
			b.Fatal(err)
		}
		turn.End()
		<-back
	}
}

// benchmarkRaw is what quic-go does by itself: batches of the same bytes written
// to one stream without framing, read and thrown away, on plain UDP sockets.
func benchmarkRaw(b *testing.B, size, batch int) {
	server := &quic.Transport{Conn: listen(b, "127.0.31.21")}
	client := &quic.Transport{Conn: listen(b, "127.0.31.22")}
	defer client.Close()
	defer server.Close()
	conf := link.TLSForBenchmarks(b, linktest.NetworkOf(b, linktest.Name, linktest.Key(b)))
	ln, err := server.Listen(conf, nil)
	require.NoError(b, err)
	var read atomic.Int64
	go func() {
		q, err := ln.Accept(context.Background())
		if err != nil {
			return
		}
		s, err := q.AcceptUniStream(context.Background())
		for buf := make([]byte, 64<<10); err == nil; {
			var n int
			n, err = s.Read(buf)
			read.Add(int64(n))
		}
	}()
	q, err := client.Dial(b.Context(), server.Conn.LocalAddr(), conf, nil)
	require.NoError(b, err)
	s, err := q.OpenUniStream()
	require.NoError(b, err)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	buf := make([]byte, size*batch)
	n := 0
	for b.Loop() {
		if n++; n%batch == 0 {
			if _, err := s.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	for read.Load() < int64(n/batch*len(buf)) {
		runtime.Gosched()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
	_ = q.CloseWithError(0, "")
}

func BenchmarkRawStream64B(b *testing.B)        { benchmarkRaw(b, 64, 1) }
func BenchmarkRawStream64BBatched(b *testing.B) { benchmarkRaw(b, 64, 32) }
func BenchmarkRawStream64KiB(b *testing.B)      { benchmarkRaw(b, 64<<10, 1) }
