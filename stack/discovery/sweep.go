package discovery

import (
	"net/netip"
	"slices"
)

// A stage is how far a sweep has come.
type stage int

const (
	stageFirstPort  stage = iota // the first port of every address of small subnets
	stageOtherPorts              // the other ports of the same
	stageLarge                   // the first port of every address of large subnets
	stageEndless                 // everything again and again
)

// A sweep is the order in which targets are visited. It never ends.
// Small subnets come before large ones, which take turns, because an address range of 65,000
// that no other node lives in (that of local containers, say) must not delay
// the one that matters.
type sweep struct {
	first  []netip.AddrPort // visited once, before all else
	fields []*field         // small ones first, those of the rear last; may be empty
	turn   int              // whose turn in stageEndless
}

// newSweep searches fields, after what comes first.
func newSweep(fields []*field, first []netip.AddrPort) *sweep {
	return &sweep{fields: fields, first: first}
}

// next is the next target; not valid where there is nothing to search.
func (s *sweep) next() netip.AddrPort {
	if len(s.first) > 0 {
		target := s.first[0]
		s.first = s.first[1:]
		return target
	}
	_, f := s.current()
	if f == nil {
		return netip.AddrPort{}
	}
	s.turn++
	return f.next()
}

// current is the stage and the field that the next target comes from. Large fields
// take turns, and all do in stageEndless, so that each is searched in a time that
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
	for _, rear := range []bool{false, true} {
		if f := s.unfinished(rear); f != nil {
			return stageLarge, f
		}
	}
	if len(s.fields) == 0 {
		return stageEndless, nil
	}
	return stageEndless, s.fields[s.turn%len(s.fields)]
}

// unfinished is the large field visited least among those without a finished lap; nil if there is none.
func (s *sweep) unfinished(rear bool) (least *field) {
	for _, f := range s.fields {
		if f.rear == rear && f.laps == 0 && (least == nil || f.at < least.at) {
			least = f
		}
	}
	return least
}

// small tells whether all fields are small.
func (s *sweep) small() bool {
	return !slices.ContainsFunc(s.fields, func(f *field) bool { return !f.fast })
}
