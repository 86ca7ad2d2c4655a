package patterns_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// A counter accepts tunnels, allows again what it gets, and counts it.
type counter struct {
	echoSink
	tun    *patterns.Tunnel
	opened chan struct{}
	got    atomic.Int64
}

func (c *counter) Tunnel(t *link.Turn, p *patterns.Tunnel, _ patterns.Open) bool {
	c.tun = p
	p.Accept(t, 1<<20, nil, c)
	return true
}

func (c *counter) Opened(*link.Turn, uint32, []byte) { close(c.opened) }
func (c *counter) Data(t *link.Turn, _ bool, payload []byte) {
	c.got.Add(1)
	c.tun.Allow(t, uint32(len(payload)+64))
}
func (c *counter) Allow(*link.Turn, uint32)                  {}
func (c *counter) Finish(*link.Turn)                         {}
func (c *counter) Aborted(*link.Turn, patterns.Code, []byte) {}

// benchmarkTunnel sends data through a tunnel from the first host to the given one.
func benchmarkTunnel(b *testing.B, to int) {
	net := patternstest.New()
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait)
	wg.Go(func() { net.Run(b.Context()) })
	var nodes []*patterns.Node
	for name := range 2 {
		o := net.Join(link.ID{byte(name)})
		n, err := patterns.New(patterns.Config{Self: link.ID{byte(name)}, Overlay: o, Seed: 1})
		if err != nil {
			b.Fatal(err)
		}
		o.Handler = n
		wg.Go(func() { _ = n.Run(b.Context()) })
		nodes = append(nodes, n)
	}
	service, client := new(counter), &counter{opened: make(chan struct{})}
	<-nodes[to].Attach(service).Serve("c")
	var t link.Turn
	tun := nodes[0].Attach(client).Open(&t, patterns.Open{Cluster: []byte("c"), Budget: -1}, client)
	t.End()
	<-client.opened
	payload := make([]byte, 64)
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		if !tun.Data(&t, true, payload) {
			b.Fatal("not allowed")
		}
		t.End()
		sent++
	}
	if got := service.got.Load(); got != int64(sent) {
		b.Fatalf("%d of %d came", got, sent)
	}
}

func BenchmarkLocalTunnel(b *testing.B)  { benchmarkTunnel(b, 0) }
func BenchmarkRemoteTunnel(b *testing.B) { benchmarkTunnel(b, 1) }
