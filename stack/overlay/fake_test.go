package overlay

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A fakeNet carries links in memory, between overlays of one synctest bubble.
type fakeNet struct {
	latency atomic.Pointer[func() time.Duration] // of dials and messages; nil: none
	dials   sync.Mutex                           // one link at a time comes about

	mu       sync.Mutex // guards the field below
	carriers map[netip.AddrPort]*fakeCarrier
}

// A fakeCarrier is a node's place in a fakeNet.
type fakeCarrier struct {
	net  *fakeNet
	id   link.ID
	addr netip.AddrPort
	fail chan error // ends Run

	mu      sync.Mutex
	overlay *Overlay // while Run runs
	conns   map[*fakeConn]bool
	wg      sync.WaitGroup
}

func newFakeNet() *fakeNet { return &fakeNet{carriers: map[netip.AddrPort]*fakeCarrier{}} }

// slow lets dials and messages take some time from now on.
func (n *fakeNet) slow(latency func() time.Duration) { n.latency.Store(&latency) }

// carrier makes the carrier of a node.
func (n *fakeNet) carrier(id link.ID, addr netip.AddrPort) *fakeCarrier {
	c := &fakeCarrier{net: n, id: id, addr: addr, fail: make(chan error, 1), conns: map[*fakeConn]bool{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.carriers[addr] = c
	return c
}

func (f *fakeCarrier) Run(ctx context.Context, o *Overlay) error {
	f.mu.Lock()
	f.overlay = o
	f.mu.Unlock()
	var err error
	select {
	case <-ctx.Done():
	case err = <-f.fail:
	}
	f.mu.Lock()
	f.overlay = nil
	for c := range f.conns {
		c.end(errors.New("carrier ends"))
	}
	f.mu.Unlock()
	f.wg.Wait()
	return err
}

func (f *fakeCarrier) Dial(ctx context.Context, id link.ID, addr netip.AddrPort) error {
	f.net.mu.Lock()
	to := f.net.carriers[addr]
	f.net.mu.Unlock()
	if to == nil || to.id != id {
		return errors.New("nobody there")
	}
	if latency := f.net.latency.Load(); latency != nil {
		select {
		case <-time.After((*latency)()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.net.dials.Lock()
	defer f.net.dials.Unlock()
	if f.linkedTo(id) {
		return nil
	}
	a, b := newFakeConn(to), newFakeConn(f)
	a.other, b.other = b, a
	if !to.serve(b) {
		return errors.New("not running")
	}
	if !f.serve(a) {
		b.end(errors.New("the dialler has ended"))
		return errors.New("not running")
	}
	return nil
}

func (f *fakeCarrier) linkedTo(id link.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		select {
		case <-c.done:
		default:
			if c.Peer() == id {
				return true
			}
		}
	}
	return false
}

// serve leads a link through its life, as link.Transport does.
func (f *fakeCarrier) serve(c *fakeConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.overlay
	if o == nil {
		return false
	}
	f.conns[c] = true
	f.wg.Go(func() {
		o.up(c)
		c.deliver(o)
		o.down(c, c.why)
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	})
	return true
}

// mute keeps everything that the peer sends from arriving.
func (f *fakeCarrier) mute(peer link.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.Peer() == peer {
			close(c.mute)
		}
	}
}

// A fakeConn is one end of a link.
type fakeConn struct {
	at    *fakeCarrier // the peer's
	other *fakeConn
	in    chan fakeMessage
	mute  chan struct{} // closed: nothing arrives any more
	once  sync.Once
	done  chan struct{}
	why   error

	received atomic.Uint64 // messages
}

type fakeMessage struct {
	control bool
	bytes   []byte
	due     time.Time // there, if what was sent before is
}

func newFakeConn(at *fakeCarrier) *fakeConn {
	return &fakeConn{at: at, in: make(chan fakeMessage, 1024), mute: make(chan struct{}), done: make(chan struct{})}
}

func (c *fakeConn) deliver(o *Overlay) {
	for {
		select {
		case <-c.done:
			return
		case m := <-c.in:
			time.Sleep(time.Until(m.due)) // or at once
			select {
			case <-c.mute:
				continue
			default:
			}
			c.received.Add(1)
			if m.control {
				o.control(c, m.bytes)
			} else {
				var turn link.Turn
				o.message(&turn, c, m.bytes)
				turn.End()
			}
		}
	}
}

func (c *fakeConn) end(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.done)
	})
}

func (c *fakeConn) Peer() link.ID        { return c.at.id }
func (c *fakeConn) Addr() netip.AddrPort { return c.at.addr }
func (c *fakeConn) RTT() time.Duration   { return time.Millisecond }

func (c *fakeConn) Packets() link.Packets { return link.Packets{Received: c.received.Load()} }

// Sync has nothing to wait for: the test's bubble waits.
func (c *fakeConn) Sync(ctx context.Context) error { return ctx.Err() }

func (c *fakeConn) AwaitRoom(ctx context.Context, _ uint64) error { return ctx.Err() }

func (c *fakeConn) OpenStream(context.Context, link.StreamHandler) (*link.Stream, error) {
	return nil, errors.New("no streams")
}

func (c *fakeConn) SendControl(msg []byte) error {
	return c.send(fakeMessage{control: true, bytes: msg})
}

func (c *fakeConn) Send(_ *link.Turn, _ uint64, head, body []byte) error {
	return c.send(fakeMessage{bytes: append(append([]byte(nil), head...), body...)})
}

func (c *fakeConn) send(m fakeMessage) error {
	if latency := c.at.net.latency.Load(); latency != nil {
		m.due = time.Now().Add((*latency)())
	}
	select {
	case <-c.done:
		return errors.New("closed")
	case c.other.in <- m:
		return nil
	default:
		c.Close(link.ReasonProtocol)
		return errors.New("full")
	}
}

func (c *fakeConn) Close(reason link.Reason) {
	c.end(reason)
	c.other.end(reason)
}
