package discovery

import (
	"net/netip"
	"slices"
)

// recentAddresses is how many addresses of nodes are remembered.
const recentAddresses = 64

// recent remembers addresses at which nodes lived, so that those which
// went missing are looked for first: after a partition one hit rejoins the
// halves. Bounded; the address seen longest ago makes room.
type recent struct {
	addrs []netip.AddrPort // seen longest ago first
	turn  int
}

// saw remembers addr as seen just now.
func (r *recent) saw(addr netip.AddrPort) {
	if i := slices.Index(r.addrs, addr); i >= 0 {
		r.addrs = slices.Delete(r.addrs, i, i+1)
	} else if len(r.addrs) == recentAddresses {
		r.addrs = slices.Delete(r.addrs, 0, 1)
	}
	r.addrs = append(r.addrs, addr)
}

// missing is a remembered address or a seed that skip does not hold, another one at
// each call; false if there is none.
func (r *recent) missing(skip map[netip.AddrPort]struct{}, seeds []netip.AddrPort) (netip.AddrPort, bool) {
	count := len(r.addrs) + len(seeds)
	for range count {
		r.turn++
		i := r.turn % count
		var addr netip.AddrPort
		if i < len(r.addrs) {
			addr = r.addrs[i]
		} else {
			addr = seeds[i-len(r.addrs)]
		}
		if _, ok := skip[addr]; !ok {
			return addr, true
		}
	}
	return netip.AddrPort{}, false
}
