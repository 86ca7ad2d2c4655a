package patterns_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// An echoSink answers inside of Request, and counts outcomes.
type echoSink struct {
	port *patterns.Port
	ok   atomic.Int64
}

func (s *echoSink) Request(t *link.Turn, r patterns.Request) bool {
	return s.port.Reply(t, patterns.Reply{ID: r.ID, Payload: r.Payload})
}

func (s *echoSink) Reply(_ *link.Turn, r patterns.Reply) {
	if r.Code == patterns.CodeOK {
		s.ok.Add(1)
	}
}

func (s *echoSink) Cancel(*link.Turn, uint64)                   {}
func (s *echoSink) Broadcast(*link.Turn, patterns.Message) bool { return true }
func (s *echoSink) Event(*link.Turn, patterns.Message) bool     { return true }

func (*echoSink) Tunnel(*link.Turn, *patterns.Tunnel, patterns.Open) bool { return false }

// benchmarkRoundTrip has a client on the first host and services on the given ones.
func benchmarkRoundTrip(b *testing.B, batch int, serving ...int) {
	net := patternstest.New()
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait) // b.Context is done by then
	wg.Go(func() { net.Run(b.Context()) })
	var nodes []*patterns.Node
	for name := range 3 {
		o := net.Join(link.ID{byte(name)})
		n, err := patterns.New(patterns.Config{Self: link.ID{byte(name)}, Overlay: o, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		o.Handler = n
		wg.Go(func() { _ = n.Run(b.Context()) })
		nodes = append(nodes, n)
	}
	attach := func(n *patterns.Node) *echoSink {
		s := new(echoSink)
		s.port = n.Attach(s)
		return s
	}
	for _, i := range serving {
		<-attach(nodes[i]).port.Serve("c")
	}
	c := attach(nodes[0])
	r := patterns.Request{Cluster: []byte("c"), Budget: 5e9, Payload: make([]byte, 64)}
	var t link.Turn
	send := func() {
		r.ID++
		c.port.Request(&t, r)
	}
	for send(); c.ok.Load() == 0; { // until the view is in
		t.End()
	}
	began, sent := c.ok.Load(), 0
	b.ReportAllocs()
	for b.Loop() {
		send()
		if sent++; sent%batch == 0 {
			t.End()
		}
	}
	t.End()
	if got := c.ok.Load() - began; got != int64(sent) {
		b.Fatalf("%d of %d requests answered", got, sent)
	}
}

func BenchmarkLocalRoundTrip(b *testing.B) { benchmarkRoundTrip(b, 1, 0) }
func BenchmarkLocalRoundTripParallel(b *testing.B) {
	n, err := patterns.New(patterns.Config{Overlay: patternstest.New().Join(link.ID{1})})
	if err != nil {
		b.Fatal(err)
	}
	s := new(echoSink)
	s.port = n.Attach(s)
	s.port.Serve("c")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := new(echoSink)
		c.port = n.Attach(c)
		r := patterns.Request{Cluster: []byte("c"), Budget: 5e9, Payload: make([]byte, 64)}
		var t link.Turn
		for pb.Next() {
			r.ID++
			c.port.Request(&t, r)
		}
	})
}

func BenchmarkRemoteRoundTrip(b *testing.B)        { benchmarkRoundTrip(b, 1, 1, 2) }
func BenchmarkRemoteRoundTripBatched(b *testing.B) { benchmarkRoundTrip(b, 64, 1, 2) }
