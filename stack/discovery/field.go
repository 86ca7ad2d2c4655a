package discovery

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// A field is a subnet as a ground to search, lap after lap without end: a lap visits one port
// of every host address in random order, the next lap the next port in a new order.
type field struct {
	subnet netip.Prefix
	rear   bool // searched after the others
	fast   bool // small enough for full speed
	laps   int  // finished

	first uint32 // host address
	size  uint32 // host addresses
	at    uint32 // next position within the lap
	order shuffle
	seed  uint64
}

// newField lays out the host addresses of subnet. RFC 3021: both addresses of
// a /31 are hosts; a /32 is one host; wider subnets lose the network and
// broadcast addresses.
func newField(subnet netip.Prefix, seed uint64) *field {
	base := subnet.Masked().Addr().As4()
	f := &field{subnet: subnet, first: binary.BigEndian.Uint32(base[:]), seed: seed}
	f.size = uint32(uint64(1) << (32 - subnet.Bits()))
	if subnet.Bits() < 31 {
		f.first++
		f.size -= 2
	}
	f.order = newShuffle(f.size, seed)
	return f
}

// next is the next address and port to visit.
func (f *field) next() netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], f.first+f.order.at(f.at))
	target := netip.AddrPortFrom(netip.AddrFrom4(ip), port(f.laps))
	if f.at++; f.at == f.size {
		f.at = 0
		f.laps++
		f.order = newShuffle(f.size, mix(f.seed+uint64(f.laps)))
	}
	return target
}

// holds tells whether addr is a host address of f.
func (f *field) holds(addr netip.Addr) bool {
	if !f.subnet.Contains(addr) {
		return false
	}
	ip := addr.As4()
	return binary.BigEndian.Uint32(ip[:])-f.first < f.size
}

// newFields turns subnets and then those of the rear into fields, the smallest of each first, each
// address in one of them only. Fields are fast as long as they have fastHosts hosts together.
func newFields(subnets, rear []netip.Prefix, seed uint64) ([]*field, error) {
	fields, err := disjoint(nil, subnets, seed)
	if err != nil {
		return nil, err
	}
	front := len(fields)
	if fields, err = disjoint(fields, rear, seed); err != nil {
		return nil, err
	}
	hosts := uint64(0)
	for i, f := range fields {
		f.rear = i >= front
		hosts += uint64(f.size)
		f.fast = hosts <= fastHosts
	}
	return fields, nil
}

// disjoint appends fields for those of subnets that no field contains, the smallest first.
func disjoint(fields []*field, subnets []netip.Prefix, seed uint64) ([]*field, error) {
	subnets = slices.Clone(subnets)
	for i, s := range subnets {
		if !s.IsValid() || !s.Addr().Is4() || s.Addr().IsMulticast() || s.Bits() < minBits {
			return nil, fmt.Errorf("subnet %v cannot be probed: want an IPv4 subnet, /%d or smaller", s, minBits)
		}
		subnets[i] = s.Masked()
	}
	slices.SortFunc(subnets, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	start := len(fields)
	for _, s := range subnets {
		if !slices.ContainsFunc(fields, func(f *field) bool { return f.subnet.Contains(s.Addr()) }) {
			fields = append(fields, newField(s, mix(seed+uint64(len(fields)))))
		}
	}
	slices.Reverse(fields[start:])
	return fields, nil
}

const (
	// minBits is the widest subnet that makes sense to probe.
	minBits = 8
	// fastHosts is as many hosts as a /22 has. Linux drops neighbours, legitimate
	// ones too, when more than 1,024 addresses are unresolved.
	fastHosts = 1<<10 - 2
)
