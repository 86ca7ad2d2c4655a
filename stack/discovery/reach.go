package discovery

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// A Reach is where a node can look for others without being told of them.
type Reach struct {
	Subnets []netip.Prefix // where to look: IPv4, /8 to /32; they may overlap
	Rear    []netip.Prefix // where to look after Subnets, such as subnets of container bridges
	Host    []netip.Addr   // addresses of this host, if that of Exclude is unspecified; other ports of them are probed first
	// Broadcast lists subnets whose broadcast address, the last one of each, is probed
	// too. They may be wider than those in Subnets.
	Broadcast []netip.Prefix
	// Callers are who calls and hears calls, unless Config.Calls is nil.
	Callers []Caller
}

// lay checks and copies r, and lays out its fields.
func (r Reach) lay() (Reach, []*field, error) {
	fields, err := newFields(r.Subnets, r.Rear, rand.Uint64())
	if err != nil {
		return Reach{}, nil, err
	}
	broadcast, err := masked(r.Broadcast)
	if err != nil {
		return Reach{}, nil, err
	}
	for _, c := range r.Callers {
		if !c.Address.IsValid() || !c.Address.Addr().Is4() || c.Interface == "" {
			return Reach{}, nil, fmt.Errorf("caller %v on %q: want an interface and an IPv4 address of it", c.Address, c.Interface)
		}
	}
	return Reach{slices.Clone(r.Subnets), slices.Clone(r.Rear), slices.Clone(r.Host), broadcast, slices.Clone(r.Callers)}, fields, nil
}

// SetReach replaces the Reach of a running Prober, as when a network interface comes or
// goes. What is new is searched at full speed, what stays goes on where it was. It keeps no
// reference to the slices. If it fails, nothing has changed.
func (p *Prober) SetReach(r Reach) error {
	r, fields, err := r.lay()
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.search == nil {
		return errors.New("discovery: the reach of a Prober changes only while it runs")
	}
	p.broadcasts.Store(&r.Broadcast)
	if newcomers := without(r.Callers, *p.callers.Swap(&r.Callers)); len(newcomers) > 0 {
		p.search.calls = calls{}
	}
	defer p.wakeSender()
	p.search.reach(fields, p.cfg.self(r.Host), broadcastTargets(r.Broadcast))
	return nil
}

// reach replaces where to search, who the node itself is and how everybody is reached.
// What is new and promising is probed first.
func (s *search) reach(fields []*field, self, broadcasts []netip.AddrPort) {
	for _, f := range fields {
		for _, old := range s.sweep.fields {
			if old.subnet == f.subnet {
				f.laps, f.at, f.order, f.seed = old.laps, old.at, old.order, old.seed
			}
		}
	}
	var first []netip.AddrPort
	for _, own := range without(self, s.self) {
		first = append(first, otherPorts(own)...)
	}
	s.sweep.first = slices.Concat(first, without(broadcasts, s.broadcasts), s.sweep.first)
	s.pacer.due = time.Time{} // at the old pace it may be long until then
	s.sweep.fields, s.self, s.broadcasts = fields, self, broadcasts
}

// without copies list but for what is in old.
func without[T comparable](list, old []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(a T) bool { return slices.Contains(old, a) })
}
