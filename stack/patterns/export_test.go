package patterns

import (
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// InFlight is how many entries the node holds, and what it counts as running at
// sessions and parked.
func (n *Node) InFlight() (entries, running, parked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slab.used, int(n.running.Load()), n.parkedBytes
}

// Known is how many groups with members the node serves or has sent to of late.
func (n *Node) Known() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := 0
	for _, g := range n.groups {
		if len(g.locals.members)+len(g.remotes.members) > 0 {
			known++
		}
	}
	return known
}

// MaxHops is how far a message to a group travels at most.
const MaxHops = maxHops

// A Hop sends a message to one node, which sees to the members from Lo to Hi.
type Hop struct{ To, Lo, Hi link.ID }

// Round is what the node that sends a message sees to.
func Round(self link.ID) (lo, hi link.ID) { return self, before(self) }

// Spread is how a node with a view hands on a message to the members from lo to hi,
// but for those that failed; and how often it knows nobody for some of them.
func Spread(self link.ID, view []overlay.Member, whole bool, lo, hi link.ID, failed []link.ID) ([]Hop, int) {
	n := &Node{self: self}
	g := &group{kind: overlay.KindTopic}
	n.setRemotes(g, view, whole)
	var hops []Hop
	for _, h := range n.spread(g, arc{lo, hi}, failed) {
		hops = append(hops, Hop{h.to, h.lo, h.hi})
	}
	return hops, int(n.dropped.unsent.Load())
}
