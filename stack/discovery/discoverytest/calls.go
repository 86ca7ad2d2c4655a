package discoverytest

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Call is one that was sent.
type Call struct {
	At        time.Time
	Interface string
	Bytes     []byte
}

// An Ear is a socket of a Net for calls.
type Ear struct {
	net    *Net
	wires  map[string]string // by name of the interface
	in     chan heard
	once   sync.Once
	closed chan struct{}
	sent   []Call // guarded by net.mu
}

type heard struct {
	from  netip.Addr
	bytes []byte
}

// Ear opens a socket for calls, of a host whose interfaces are on these wires. What is sent on a wire reaches
// every other ear on it.
func (n *Net) Ear(wires map[string]string) *Ear {
	e := &Ear{net: n, wires: wires, in: make(chan heard, queueLength), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ears = append(n.ears, e)
	return e
}

// Sent returns what e has called since the last call of Sent.
func (e *Ear) Sent() []Call {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	sent := e.sent
	e.sent = nil
	return sent
}

// Inject has e hear b as if it came from from, whose zone is an interface of e.
func (e *Ear) Inject(from netip.Addr, b []byte) {
	select {
	case e.in <- heard{from, slices.Clone(b)}:
	default: // the queue is full: lost
	}
}

// ReadCall waits for a datagram, until the socket is closed.
func (e *Ear) ReadCall(b []byte) (int, netip.Addr, error) {
	select {
	case h := <-e.in:
		return copy(b, h.bytes), h.from, nil
	case <-e.closed:
		return 0, netip.Addr{}, net.ErrClosed
	}
}

// WriteCall sends b to the wire of an interface.
func (e *Ear) WriteCall(b []byte, nic string) error {
	wire, ok := e.wires[nic]
	if !ok {
		return net.UnknownNetworkError(nic)
	}
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.sent = append(e.sent, Call{time.Now(), nic, slices.Clone(b)})
	for _, other := range e.net.ears {
		for name, w := range other.wires {
			if w == wire && other != e {
				other.Inject(netip.MustParseAddr("fe80::1").WithZone(name), b)
			}
		}
	}
	return nil
}

// Close closes the socket; reading fails with net.ErrClosed from now on.
func (e *Ear) Close() error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.ears = slices.DeleteFunc(e.net.ears, func(x *Ear) bool { return x == e })
	e.once.Do(func() { close(e.closed) })
	return nil
}
