package patterns

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/project-iris/iris/stack/link"
)

// nearby is how many members on either side a node knows without a gap; see
// overlay.Handler.
const nearby = 16

// An arc is a stretch of the ring that ids form, behind the last of which comes the
// first: from lo to hi, both included.
type arc struct{ lo, hi link.ID }

// round is the whole ring, from id on.
func round(id link.ID) arc { return arc{id, before(id)} }

// only is whether there is nothing in a but id.
func (a arc) only(id link.ID) bool { return a == arc{id, id} }

// covers is whether all of b lies in a.
func (a arc) covers(b arc) bool {
	lo, hi := minus(b.lo, a.lo), minus(b.hi, a.lo)
	return lo.Compare(hi) <= 0 && hi.Compare(minus(a.hi, a.lo)) <= 0
}

// has is whether id lies in a.
func (a arc) has(id link.ID) bool { return a.covers(arc{id, id}) }

// minus is how far a lies behind b on the ring.
func minus(a, b link.ID) link.ID {
	const word = 8
	borrow := uint64(0)
	for i := len(a) - word; i >= 0; i -= word {
		var d uint64
		d, borrow = bits.Sub64(binary.BigEndian.Uint64(a[i:]), binary.BigEndian.Uint64(b[i:]), borrow)
		binary.BigEndian.PutUint64(a[i:], d)
	}
	return a
}

// before is the id before id on the ring.
func before(id link.ID) link.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// A ring is the nodes that host members of a group, as one that is not among
// them knows them. Its slice is replaced, never changed, so that it can be used without the lock.
type ring struct {
	self    link.ID
	nodes   []link.ID // in the order in which they come behind self
	partial bool      // there are others
	known   arc       // where there are none, if partial
}

// ringOf makes a ring of all members or, if partial, of those that overlay.Handler
// tells of a large group. It keeps nodes.
func ringOf(self link.ID, nodes []link.ID, partial bool) ring {
	slices.SortFunc(nodes, link.ID.Compare)
	at, _ := slices.BinarySearchFunc(nodes, self, link.ID.Compare)
	r := ring{self: self, nodes: slices.Concat(nodes[at:], nodes[:at])}
	if partial {
		near := min(nearby, len(nodes)/2)
		r.partial, r.known = true, arc{self, self}
		if near > 0 {
			r.known = arc{r.nodes[len(r.nodes)-near], r.nodes[near-1]}
		}
	}
	return r
}

// knows is whether there are no members in a but those of the ring.
func (r *ring) knows(a arc) bool { return !r.partial || r.known.covers(a) }

// place is where in the nodes id is, or would be.
func (r *ring) place(id link.ID) int {
	at, _ := slices.BinarySearchFunc(r.nodes, minus(id, r.self), func(node, distance link.ID) int {
		return minus(node, r.self).Compare(distance)
	})
	return at
}

// within yields the nodes of an arc that has self at its beginning, or nowhere.
func (r *ring) within(a arc) []link.ID {
	first, end := r.place(a.lo), r.place(a.hi)
	if end < len(r.nodes) && r.nodes[end] == a.hi {
		end++
	}
	return r.nodes[first:max(first, end)]
}

// precursor yields the last node before id that is not among failed; false: there
// is none between self and id.
func (r *ring) precursor(id link.ID, failed []link.ID) (link.ID, bool) {
	for i := r.place(id) - 1; i >= 0; i-- {
		if !slices.Contains(failed, r.nodes[i]) {
			return r.nodes[i], true
		}
	}
	return link.ID{}, false
}
