package patterns_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// A countingSink counts events.
type countingSink struct {
	echoSink
	events atomic.Int64
}

func (s *countingSink) Event(*link.Turn, patterns.Message) bool {
	s.events.Add(1)
	return true
}

// benchmarkPublish has a publisher on one node and subscribers on as many others.
func benchmarkPublish(b *testing.B, subscribers int) {
	const batch = 64 // events of a turn
	net := patternstest.New()
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait) // b.Context is done by then
	wg.Go(func() { net.Run(b.Context()) })
	var publisher *patterns.Port
	var sinks []*countingSink
	for i := range subscribers + 1 {
		o := net.Join(link.ID{byte(i)})
		n, err := patterns.New(patterns.Config{Self: link.ID{byte(i)}, Overlay: o, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		o.Handler = n
		wg.Go(func() { _ = n.Run(b.Context()) })
		sink := new(countingSink)
		if i == 0 {
			publisher = n.Attach(sink)
			continue
		}
		<-n.Attach(sink).Subscribe([]byte("topic"))
		sinks = append(sinks, sink)
	}
	m := patterns.Message{Name: []byte("topic"), Payload: make([]byte, 128)}
	var t link.Turn
	sent := int64(0)
	publish := func() {
		publisher.Publish(&t, m)
		if sent++; sent%batch == 0 {
			t.End()
		}
	}
	for range 10 * batch { // buffers grow
		publish()
	}
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
	t.End()
	for i, s := range sinks {
		if got := s.events.Load(); got != sent {
			b.Fatalf("subscriber %d got %d of %d events", i, got, sent)
		}
	}
}

func BenchmarkPublishToOne(b *testing.B)  { benchmarkPublish(b, 1) }
func BenchmarkPublishToFour(b *testing.B) { benchmarkPublish(b, 4) }

// BenchmarkPublishThroughATree has nodes hand each event on.
func BenchmarkPublishThroughATree(b *testing.B) { benchmarkPublish(b, 250) }
