// Package discoverytest is a network in memory for tests of discovery: its
// sockets are discovery.Conns. Delivery is immediate, works in
// synctest bubbles, and can be watched, cut and forged. Everything is safe for
// concurrent use.
package discoverytest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// queueLength is how many datagrams wait for a reader; more are lost, as they are in a real
// socket.
const queueLength = 1024

// A Datagram is one that was sent.
type Datagram struct {
	At       time.Time
	From, To netip.AddrPort
	Bytes    []byte
}

// Net is a network. The zero Net is ready for use.
type Net struct {
	mu     sync.Mutex // guards the fields below
	conns  map[netip.AddrPort]*Conn
	sent   []Datagram
	filter func(Datagram) error
	shared []netip.Prefix
	thins  bool
	ears   []*Ear
}

// Thin lets sockets thin out what comes; before, they cannot.
func (n *Net) Thin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.thins = true
}

// Share gives the subnet a broadcast address: what is sent to a port of its last
// address goes to every socket at that port on the subnet, but that of the sender.
func (n *Net) Share(subnet netip.Prefix) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shared = append(n.shared, subnet.Masked())
}

// Listen opens a socket at addr, instead of the one that was there.
func (n *Net) Listen(addr netip.AddrPort) *Conn {
	c := &Conn{net: n, addr: addr, in: make(chan Datagram, queueLength), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[netip.AddrPort]*Conn)
	}
	n.conns[addr] = c
	return c
}

// Filter has f decide about each datagram that sockets send from now on: an
// error is returned to the sender; ErrLost loses the datagram instead. F must
// not call n. A nil f lets everything through.
func (n *Net) Filter(f func(Datagram) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// Sent returns what sockets have sent since the last call, delivered or not.
func (n *Net) Sent() []Datagram {
	n.mu.Lock()
	defer n.mu.Unlock()
	sent := n.sent
	n.sent = nil
	return sent
}

// Inject delivers b to the socket at to as if it came from from. It is not
// recorded as sent. What nobody listens for is lost.
func (n *Net) Inject(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	listeners := n.listeners(from, to)
	listeners = slices.DeleteFunc(listeners, func(c *Conn) bool { return c.drops(b) })
	n.mu.Unlock()
	for _, c := range listeners {
		select {
		case c.in <- Datagram{At: time.Now(), From: from, To: to, Bytes: append([]byte(nil), b...)}:
		default: // the queue is full: lost
		}
	}
}

// listeners are the sockets that a datagram to to reaches.
func (n *Net) listeners(from, to netip.AddrPort) (reached []*Conn) {
	if c := n.conns[to]; c != nil {
		return []*Conn{c}
	}
	for _, subnet := range n.shared {
		if !subnet.Contains(to.Addr()) || subnet.Contains(to.Addr().Next()) {
			continue
		}
		for addr, c := range n.conns {
			if addr != from && addr.Port() == to.Port() && subnet.Contains(addr.Addr()) {
				reached = append(reached, c)
			}
		}
	}
	return reached
}

// ErrLost is what a filter returns to lose a datagram silently.
var ErrLost = net.UnknownNetworkError("lost")

// Conn is a socket of a Net.
type Conn struct {
	net    *Net
	addr   netip.AddrPort
	in     chan Datagram
	once   sync.Once
	closed chan struct{}
	thin   thinning // guarded by net.mu
}

// A thinning is what ThinProbes was told, and how many it has judged of either sort.
type thinning struct {
	offset          int
	word            uint16
	with, without   uint32
	nWith, nWithout uint32
}

// ThinProbes drops all but each with-th datagram that has word at offset, and all but
// each without-th of the others.
func (c *Conn) ThinProbes(offset int, word uint16, with, without uint32) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if !c.net.thins {
		return errors.ErrUnsupported
	}
	c.thin = thinning{offset: offset, word: word, with: max(with, 1), without: max(without, 1)}
	return nil
}

// Thinned tells whether the socket drops anything.
func (c *Conn) Thinned() (with, without bool) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.thin.with > 1, c.thin.without > 1
}

// drops decides about a datagram.
func (c *Conn) drops(b []byte) bool {
	t := &c.thin
	switch {
	case t.with <= 1 && t.without <= 1:
		return false
	case len(b) < t.offset+2:
		return true
	case binary.BigEndian.Uint16(b[t.offset:]) == t.word:
		t.nWith++
		return t.nWith%t.with != 0
	default:
		t.nWithout++
		return t.nWithout%t.without != 0
	}
}

// ReadProbe waits for a datagram, until ctx is done or the socket is closed.
func (c *Conn) ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		return copy(b, d.Bytes), d.From, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	case <-ctx.Done():
		return 0, netip.AddrPort{}, ctx.Err()
	}
}

// WriteProbe sends b to addr; nobody listening there is no error.
func (c *Conn) WriteProbe(b []byte, addr netip.AddrPort) error {
	d := Datagram{At: time.Now(), From: c.addr, To: addr, Bytes: append([]byte(nil), b...)}
	c.net.mu.Lock()
	c.net.sent = append(c.net.sent, d)
	var err error
	if c.net.filter != nil {
		err = c.net.filter(d)
	}
	c.net.mu.Unlock()
	switch err {
	case nil:
		c.net.Inject(d.From, d.To, d.Bytes)
		return nil
	case ErrLost:
		return nil
	default:
		return err
	}
}

// Close closes the socket; reading fails with net.ErrClosed from now on.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.net.conns[c.addr] == c {
		delete(c.net.conns, c.addr)
	}
	return nil
}
