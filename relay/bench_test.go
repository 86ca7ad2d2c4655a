package relay

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

// exchange writes frames and reads as many replies as there are requests among
// them. It allocates nothing, so that what a benchmark counts is the relay's.
func (c *client) exchange(frames []byte, replies int) {
	if _, err := c.conn.Write(frames); err != nil {
		c.t.Fatal(err)
	}
	for range replies {
		content, err := c.in.Next()
		if err != nil {
			c.t.Fatal(err)
		}
		if op, _ := wire.ParseOp(content); op != wire.OpReply {
			c.t.Fatalf("want a reply, got %v", op)
		}
	}
}

// requests are n requests of 64 bytes to the cluster that the network serves.
func requests(n uint64) []byte {
	var frames []byte
	for id := range n {
		frames = append(frames, request(id, "echo", string(make([]byte, 64)))...)
	}
	return frames
}

// BenchmarkEcho is the round trip of a request that the network answers at once.
func BenchmarkEcho(b *testing.B) {
	c := newWorld(b, Config{}).attach("")
	frames := requests(1)
	b.ReportAllocs()
	for b.Loop() {
		c.exchange(frames, 1)
	}
}

// BenchmarkTurn is the same with 64 requests in one turn; an op is 64 requests.
func BenchmarkTurn(b *testing.B) {
	c := newWorld(b, Config{}).attach("")
	frames := requests(64)
	b.ReportAllocs()
	for b.Loop() {
		c.exchange(frames, 64)
	}
}

// BenchmarkForward is a request to a service on the same node and its reply.
func BenchmarkForward(b *testing.B) {
	w := newWorld(b, Config{})
	service, c := w.serve("demo", 1<<30), w.attach("")
	var wg sync.WaitGroup
	wg.Go(func() { answerAll(service) })
	frames := request(1, "demo", string(make([]byte, 64)))
	b.ReportAllocs()
	for b.Loop() {
		c.exchange(frames, 1)
	}
	service.kill()
	wg.Wait()
}

// answerAll returns every request's payload until the connection ends.
func answerAll(service *client) {
	var answer []byte
	for {
		content, err := service.in.Next()
		if err != nil {
			return
		}
		r, err := wire.ParseRequest(content)
		if err != nil {
			return
		}
		answer = wire.AppendReply(answer[:0], wire.Reply{ID: r.ID, Payload: r.Payload})
		if _, err := service.conn.Write(answer); err != nil {
			return
		}
	}
}

func TestRequestAndReplyAllocateNothing(t *testing.T) {
	c := newWorld(t, Config{}).attach("")
	frames := requests(64)
	c.exchange(frames, 64)
	allocs := testing.AllocsPerRun(100, func() { c.exchange(frames, 64) })
	require.Less(t, allocs, 16.0, "per 64 requests: what is left are buffers that the collector took from their pool")
}

func TestIdleClientIsCheap(t *testing.T) {
	const clients, limit = 1000, 16 << 10
	w := newWorld(t, Config{})
	conns := make([]interface{ Close() error }, 0, clients)
	before := inUse()
	for range clients {
		// The client's own memory is kept small: it shares the process.
		conn := w.dial()
		_, err := conn.Write(hello(""))
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 512))
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	cost := (inUse() - before) / clients
	t.Logf("an idle client costs %d bytes, both ends of its connection included", cost)
	require.Less(t, cost, int64(limit))
	runtime.KeepAlive(conns)
}

// inUse is the memory of heap and stacks.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func TestEventsBroadcastsAndDataAllocateNothing(t *testing.T) {
	const batch = 64
	w := newWorld(t, Config{})
	c, asker := w.attach("demo"), w.attach("")
	c.send(wire.AppendCredit(nil, wire.KindEvent, 1<<30), wire.AppendCredit(nil, wire.KindBroadcast, 1<<30), subscribe(1, "news"))
	c.done(1, wire.CodeOK)
	offered := tunnel(c, asker, 1, "demo")
	session := w.network.port(0).session
	payload := make([]byte, 64)
	event := wire.Event{Topic: []byte("news"), Payload: payload}
	broadcast := wire.Broadcast{Cluster: []byte("demo"), Payload: payload}
	for name, push := range map[string]func() bool{
		"event":     func() bool { return session.PushEvent(event) },
		"broadcast": func() bool { return session.PushBroadcast(broadcast) },
		"data":      func() bool { return session.PushData(wire.Data{ID: offered, Payload: payload}) },
	} {
		allocs := testing.AllocsPerRun(100, func() {
			for range batch {
				if !push() {
					t.Fatal(name)
				}
			}
			session.Flush()
			for range batch {
				if _, err := c.in.Next(); err != nil {
					t.Fatal(err)
				}
			}
		})
		require.Less(t, allocs, 16.0, "%s: per 64; what is left are buffers that the collector took from their pool", name)
	}
	for name, frame := range map[string][]byte{
		"publish":   wire.AppendPublish(nil, wire.Publish{Topic: []byte("other"), Payload: payload}),
		"broadcast": wire.AppendBroadcast(nil, wire.Broadcast{Cluster: []byte("other"), Payload: payload}),
	} {
		frames := append(bytes.Repeat(frame, batch), wire.AppendPing(nil, 1)...)
		allocs := testing.AllocsPerRun(100, func() {
			asker.send(frames)
			if _, err := asker.in.Next(); err != nil {
				t.Fatal(err)
			}
		})
		require.Less(t, allocs, 16.0, "%s: per 64", name)
	}
}
