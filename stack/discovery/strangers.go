package discovery

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxStrangers = 64
	// strangerTime is how long a stranger is remembered: a settled one probes an address of
	// a /24 about every ten minutes.
	strangerTime = 30 * time.Minute
)

// A Stranger is a node that probed this one under a MAC that it cannot check.
// Anybody can pretend to be one: this is for diagnosis only.
type Stranger struct {
	Addr    netip.AddrPort
	SameKey bool // it says that it has the same key, so it has another network name
	Seen    time.Time
}

// strangers remembers who probed under a foreign MAC, in a place of fixed size: the
// one seen longest ago makes room. Safe for concurrent use.
type strangers struct {
	mu   sync.Mutex // guards list
	list [maxStrangers]Stranger
}

// saw takes note of a datagram from addr.
func (s *strangers) saw(now time.Time, addr netip.AddrPort, sameKey bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := 0
	for i := range s.list {
		if s.list[i].Addr == addr {
			oldest = i
			break
		}
		if s.list[i].Seen.Before(s.list[oldest].Seen) {
			oldest = i
		}
	}
	s.list[oldest] = Stranger{addr, sameKey, now}
}

// forget drops addr: whoever is there belongs to this network now.
func (s *strangers) forget(addr netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		if s.list[i].Addr == addr {
			s.list[i] = Stranger{}
		}
	}
}

// since lists who was seen since then.
func (s *strangers) since(then time.Time) (list []Stranger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.list {
		if x.Addr.IsValid() && x.Seen.After(then) {
			list = append(list, x)
		}
	}
	return list
}

// Strangers lists nodes of other networks, at most 64, that have probed this one in the last
// half hour. They are claims: anybody can make them.
func (p *Prober) Strangers() []Stranger { return p.strangers.since(time.Now().Add(-strangerTime)) }
