package discovery

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// newSearch is the search of a node that starts: where peers were last, who else is
// on this host, everybody within reach of a broadcast, and then the fields.
func (c *Config) newSearch(now time.Time, fields []*field) *search {
	self := c.self(c.Host)
	broadcasts := broadcastTargets(c.Broadcast)
	first := slices.Concat(c.Last, neighbours(fields, self), broadcasts)
	s := newSearch(now, newSweep(fields, first), self...)
	s.broadcasts = broadcasts
	s.resolving = len(c.Seeds) > 0
	for _, addr := range slices.Backward(c.Last) {
		s.recent.saw(addr)
	}
	return s
}

// self lists where this node itself is reached, if these are the addresses of its host.
func (c *Config) self(host []netip.Addr) []netip.AddrPort {
	self := []netip.AddrPort{c.Exclude}
	for _, addr := range host {
		self = append(self, netip.AddrPortFrom(addr, c.Exclude.Port()))
	}
	return self
}

// neighbours lists where other nodes on this host may be.
func neighbours(fields []*field, self []netip.AddrPort) (others []netip.AddrPort) {
	for i, own := range self {
		// An address from Host counts anyway, that of Exclude if it is to be searched.
		if i == 0 && !slices.ContainsFunc(fields, func(f *field) bool { return f.holds(own.Addr()) }) {
			continue
		}
		others = append(others, otherPorts(own)...)
	}
	return others
}

// otherPorts lists the well-known ports of own's address that own is not.
func otherPorts(own netip.AddrPort) (others []netip.AddrPort) {
	for i := range Ports {
		if p := netip.AddrPortFrom(own.Addr(), port(i)); p != own {
			others = append(others, p)
		}
	}
	return others
}

// broadcastTargets lists the well-known ports of the broadcast addresses, the first
// port of each subnet first.
func broadcastTargets(subnets []netip.Prefix) (targets []netip.AddrPort) {
	for i := range Ports {
		for _, s := range subnets {
			targets = append(targets, netip.AddrPortFrom(last(s), port(i)))
		}
	}
	return targets
}

// last is the broadcast address of an IPv4 subnet.
func last(subnet netip.Prefix) netip.Addr {
	ip := subnet.Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		ip[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(ip)
}

// masked checks and copies the subnets to broadcast on. RFC 3021: a /31 has no
// broadcast address.
func masked(subnets []netip.Prefix) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range subnets {
		if !s.IsValid() || !s.Addr().Is4() || s.Bits() < minBits || s.Bits() > 30 {
			return nil, fmt.Errorf("subnet %v has no broadcast address to probe: want an IPv4 subnet, /%d to /30", s, minBits)
		}
		if !slices.Contains(out, s.Masked()) {
			out = append(out, s.Masked())
		}
	}
	return out, nil
}
