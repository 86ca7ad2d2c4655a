package discovery

import "net/netip"

// A stage is how far a sweep has come.
type stage int

const (
	stageFirstPort  stage = iota // the first port of every address of small subnets
	stageOtherPorts              // the other ports of the same
	stageLarge                   // the first port of every address of large subnets
	stageEndless                 // everything again and again
)

// A sweep is the order in which targets are visited. It never ends.
// Small subnets come before large ones, because an address range of 65,000
// that no other node lives in (that of local containers, say) must not delay
// the one that matters.
type sweep struct {
	own    []netip.AddrPort // nodes on the same host, visited once before all else
	fields []*field         // small ones first
	turn   int              // whose turn in stageEndless
}

// newSweep searches fields for nodes other than that at self. If the address of self
// is in one of the fields, its other ports come first.
func newSweep(fields []*field, self netip.AddrPort) *sweep {
	s := &sweep{fields: fields}
	for _, f := range fields {
		if !f.holds(self.Addr()) {
			continue
		}
		for i := range Ports {
			if p := netip.AddrPortFrom(self.Addr(), port(i)); p != self {
				s.own = append(s.own, p)
			}
		}
	}
	return s
}

// next is the next target.
func (s *sweep) next() netip.AddrPort {
	if len(s.own) > 0 {
		target := s.own[0]
		s.own = s.own[1:]
		return target
	}
	_, f := s.current()
	s.turn++
	return f.next()
}

// current is the stage and the field that the next target comes from. In
// stageEndless the fields take turns, so that each is searched in a time that
// depends on its own size.
func (s *sweep) current() (stage, *field) {
	for _, f := range s.fields {
		if f.fast && f.laps == 0 {
			return stageFirstPort, f
		}
	}
	for _, f := range s.fields {
		if f.fast && f.laps < Ports {
			return stageOtherPorts, f
		}
	}
	for _, f := range s.fields {
		if f.laps == 0 {
			return stageLarge, f
		}
	}
	return stageEndless, s.fields[s.turn%len(s.fields)]
}

// small tells whether all fields are small.
func (s *sweep) small() bool { return s.fields[len(s.fields)-1].fast }
