package discovery

import (
	"net/netip"
	"time"
)

const (
	// repeatAfter is how soon the same node at the same address is reported again.
	repeatAfter = time.Second
	// gateSightings bounds the memory of a gate: two generations of this many.
	gateSightings = 2048
	// Sightings by probe alone, whose source may be forged, per second and at once.
	claimInterval = time.Second / 100
	claimBurst    = 256
)

// A sighting is a node at an address.
type sighting struct {
	id   [32]byte
	addr netip.AddrPort
}

// A gate bounds how often sightings are reported, so that replayed probes
// cause little work further up. It remembers the last ones in two generations:
// when the young one is full it becomes the old one, and the old one is forgotten.
type gate struct {
	young, old map[sighting]time.Time
	claims     pacer
}

func newGate(interval time.Duration, burst int) *gate {
	return &gate{young: make(map[sighting]time.Time), claims: pacer{interval: interval, burst: burst}}
}

// pass tells whether to report s now, and whether it is fresh, that is not
// remembered. A sighting that is not proven by an answer passes within the
// rate of claims only.
func (g *gate) pass(now time.Time, s sighting, proven bool) (report, fresh bool) {
	last, ok := g.young[s]
	if !ok {
		last, ok = g.old[s]
	}
	if ok && now.Sub(last) < repeatAfter {
		return false, false
	}
	if !proven && !g.claims.allow(now) {
		return false, false
	}
	if len(g.young) >= gateSightings {
		g.young, g.old = make(map[sighting]time.Time), g.young
	}
	g.young[s] = now
	return true, !ok
}
