package discovery

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

const (
	// callGap is how soon the first call is repeated, for it may be lost; each later one waits twice as long.
	callGap = 100 * time.Millisecond
	// Calls are followed at this rate.
	calledInterval = time.Second / 20
	calledBurst    = 32
	// maxCalled bounds the callers that wait to be probed; more are not heard.
	maxCalled = 64
)

// A Caller is an address of this host that others on an interface are to be told.
type Caller struct {
	Interface string       // its name
	Address   netip.Prefix // IPv4, with the mask of its subnet: calls from there count
}

// callOf is what a call for addr carries instead of a nonce.
func callOf(addr netip.AddrPort) (n nonce) {
	ip := addr.Addr().As4()
	copy(n[:], ip[:])
	binary.BigEndian.PutUint16(n[4:], addr.Port())
	_, _ = rand.Read(n[6:]) // never fails
	return n
}

// caller is the address in a call.
func (n nonce) caller() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[:])), binary.BigEndian.Uint16(n[4:]))
}

// calls says when to call: at once, soon again, and in the end as seldom as slowest. The zero calls has not begun.
type calls struct {
	last time.Time
	gap  time.Duration // to the next one
}

// wait is how long the next call has to wait.
func (c *calls) wait(now time.Time, slowest time.Duration) time.Duration {
	return max(0, c.last.Add(min(c.gap, slowest)).Sub(now))
}

// take tells whether to call now, and takes it as done.
func (c *calls) take(now time.Time, slowest time.Duration) bool {
	if c.wait(now, slowest) > 0 {
		return false
	}
	c.last, c.gap = now, max(callGap, min(2*c.gap, slowest))
	return true
}

// heard has addr probed next.
func (s *search) heard(addr netip.AddrPort) {
	if len(s.called) < maxCalled && !slices.Contains(s.called, addr) {
		s.called = append(s.called, addr)
	}
}

// caller is who has called and is not known; not valid if there is nobody.
func (s *search) caller() netip.AddrPort {
	for len(s.called) > 0 {
		addr := s.called[0]
		s.called = s.called[1:]
		if _, ok := s.skip[addr]; !ok {
			return addr
		}
	}
	return netip.AddrPort{}
}

// A listener judges what comes by multicast. It does no I/O and is driven by the time it is given. It
// belongs to one goroutine.
type listener struct {
	self    [32]byte
	keys    keyring
	callers []Caller
	gate    *gate
}

func newListener(self [32]byte) *listener {
	return &listener{self: self, gate: newGate(calledInterval, calledBurst)}
}

// judge decides about the datagram b from an IPv6 address, whose zone is the interface, and returns whom
// to probe if it is accepted. What is cheap to check comes first.
func (l *listener) judge(now time.Time, b []byte, from netip.Addr) (netip.AddrPort, reason) {
	p, refused := parseProbe(b)
	addr := p.nonce.caller()
	switch {
	case refused != accepted:
		return netip.AddrPort{}, refused
	case p.kind != kindCall:
		return netip.AddrPort{}, refusedKind
	case !from.IsLinkLocalUnicast() || !l.near(from.Zone(), addr): // what routers pass on is never link-local
		return netip.AddrPort{}, refusedOutside
	case p.id == l.self:
		return netip.AddrPort{}, refusedSelf
	case l.keys.signerOf(b) == nil:
		return netip.AddrPort{}, refusedMAC
	}
	if pass, _ := l.gate.pass(now, sighting{p.id, addr}, false); !pass {
		return netip.AddrPort{}, refusedRate
	}
	return addr, accepted
}

// near tells whether a node may live at addr on a subnet of the interface.
func (l *listener) near(nic string, addr netip.AddrPort) bool {
	return addr.Port() >= FirstPort && addr.Port() < FirstPort+Ports && slices.ContainsFunc(l.callers, func(c Caller) bool {
		return c.Interface == nic && c.Address.Masked().Contains(addr.Addr())
	})
}
