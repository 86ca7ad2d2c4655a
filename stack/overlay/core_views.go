package overlay

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxWhole = 256 // members of a group that views show whole
	beside   = 16  // members on each side of the watcher that a part of a view shows
	fingers  = 4   // members that it shows of each further distance, doubling
)

// around is the view of a watcher: all members, or those around its id.
func (k *kept) around(id link.ID) []*record {
	if len(k.members) <= maxWhole {
		return k.members
	}
	n := len(k.members)
	at, found := slices.BinarySearchFunc(k.members, id, func(m *record, id link.ID) int { return m.node.Compare(id) })
	chosen := map[int]bool{}
	behind := beside
	if found { // the watcher itself does not count
		behind++
	}
	for i := range behind {
		chosen[(at+i)%n] = true
	}
	for i := range beside {
		chosen[(at-1-i+n)%n] = true
	}
	// The first member at or behind id + 2^j*(4+m)/4, from where they are sparse.
	last := k.members[(at+behind-1)%n].node
	for j := range 256 {
		for m := range fingers {
			point, ok := ahead(id, j, m)
			if !ok || distance(id, point) < distance(id, last) {
				continue
			}
			i, _ := slices.BinarySearchFunc(k.members, point, func(r *record, id link.ID) int { return r.node.Compare(id) })
			chosen[i%n] = true
		}
	}
	list := make([]*record, 0, len(chosen))
	for _, i := range slices.Sorted(maps.Keys(chosen)) {
		list = append(list, k.members[i])
	}
	return list
}

// ahead is id + 2^j*(4+m)/4 on the ring of ids. The lowest 192 bits do not tell members
// apart: false for what is within them.
func ahead(id link.ID, j, m int) (link.ID, bool) {
	if j < 194 {
		return id, false
	}
	high := binary.BigEndian.Uint64(id[:]) + uint64(4+m)<<(j-194)
	binary.BigEndian.PutUint64(id[:], high)
	return id, true
}

// distance is how far b is behind a on the ring, in its highest 64 bits.
func distance(a, b link.ID) uint64 {
	return binary.BigEndian.Uint64(b[:]) - binary.BigEndian.Uint64(a[:])
}

// showAll owes a watcher the view from the start.
func (c *core) showAll(g *group, p *peer) {
	w := g.kept.watchers[p]
	w.begun, w.shown = true, nil
	w.part = len(g.kept.members) > maxWhole
	if w.part {
		w.shown = nodesOf(g.kept.around(p.id))
	}
	b := c.owe(p, ofView, g, nil)
	b.first = true
	b.promises = append(b.promises, w.promises...)
	w.promises = nil
}

func nodesOf(list []*record) map[link.ID]bool {
	nodes := make(map[link.ID]bool, len(list))
	for _, r := range list {
		nodes[r.node] = true
	}
	return nodes
}

// showChange owes a watcher what has become of a node.
func (c *core) showChange(g *group, p *peer, w *watcher, node link.ID, pr *promise) {
	part := len(g.kept.members) > maxWhole
	switch {
	case part != w.part:
		if pr != nil {
			w.promises = append(w.promises, pr.hold())
		}
		c.showAll(g, p)
	case !part:
		c.owe(p, ofView, g, pr).about(node)
	default:
		now := nodesOf(g.kept.around(p.id))
		var b *parcel
		about := func(id link.ID) {
			if b == nil {
				b = c.owe(p, ofView, g, pr)
			}
			b.about(id)
		}
		if now[node] || w.shown[node] {
			about(node)
		}
		for id := range now {
			if !w.shown[id] {
				about(id)
			}
		}
		for id := range w.shown {
			if !now[id] {
				about(id)
			}
		}
		w.shown = now
	}
}

// receive takes a view, or what has changed in it, and shows it.
func (m view) receive(c *core, p *peer) error {
	g := c.groups[m.key]
	if g != nil && g.watch && g.keeper == p.id {
		if !m.first && !g.viewed && g.again {
			c.acknowledge(p, m.sequence) // sent before it heard that it is to begin anew
			return nil
		}
		if !m.first && !g.viewed {
			return fmt.Errorf("%w: a change before there was a view", errMalformed)
		}
		if m.first {
			g.entries, g.viewed, g.again = g.entries[:0], true, false
		}
		g.whole = m.whole
		for _, e := range m.list {
			if !e.addr.IsValid() {
				e.addr = p.contact.addrs[0]
			}
			c.enter(g, e)
		}
		c.push(g)
	}
	c.acknowledge(p, m.sequence)
	return nil
}

// enter notes an entry of a view.
func (c *core) enter(g *group, e entry) {
	i, found := slices.BinarySearchFunc(g.entries, e.node, func(e entry, id link.ID) int { return e.node.Compare(id) })
	switch {
	case e.count == 0 && found:
		g.entries = slices.Delete(g.entries, i, i+1)
		if q := c.peer(e.node); q != nil {
			c.suspect(q)
		}
	case e.count == 0:
	case found:
		g.entries[i] = e
	default:
		g.entries = slices.Insert(g.entries, i, e)
	}
}

// push hands the view to the handler if it is another than before. What cannot be
// reached is not shown.
func (c *core) push(g *group) {
	unknown := g.keeper == c.self && !g.kept.ready || g.keeper != c.self && !g.viewed
	if !g.watch || unknown && !g.pushed {
		return
	}
	members, whole := make([]Member, 0, len(g.shown)+1), g.whole
	show := func(node link.ID, count uint32) {
		if _, down := c.down[node]; !down && node != c.self {
			members = append(members, Member{node, int(count)})
		}
	}
	if unknown { // what was shown stays, but for who is down
		for _, m := range g.shown {
			show(m.Node, uint32(m.Count))
		}
		whole = g.shownWhole
	} else if g.keeper == c.self {
		for _, r := range g.kept.around(c.self) {
			show(r.node, r.count)
		}
		whole = len(g.kept.members) <= maxWhole
	} else {
		for _, e := range g.entries {
			show(e.node, e.count)
		}
	}
	if g.pushed && whole == g.shownWhole && slices.Equal(members, g.shown) {
		return
	}
	g.shown, g.shownWhole, g.pushed = members, whole, true
	c.emit(pushView{g.key, slices.Clone(members), whole})
}

// hide keeps a node out of the views that it is in, because it cannot be reached. It tells whether
// there are any. Who comes into one later is shown: others have reached it since.
func (c *core) hide(node link.ID) bool {
	c.down[node] = c.now
	member := c.repush(node)
	if !member {
		delete(c.down, node)
	}
	return member
}

// show ends that.
func (c *core) show(node link.ID) {
	if _, hidden := c.down[node]; hidden {
		delete(c.down, node)
		c.repush(node)
	}
}

// repush hands over the views that a node may be in, and tells whether there is one.
func (c *core) repush(node link.ID) (member bool) {
	for _, g := range c.all() {
		if !g.watch {
			continue
		}
		_, known := g.member(node)
		_, shown := slices.BinarySearchFunc(g.shown, node, func(m Member, id link.ID) int { return m.Node.Compare(id) })
		if known || shown {
			c.push(g)
			member = true
		}
	}
	return member
}

// member is what is known of a member of the group.
func (g *group) member(node link.ID) (entry, bool) {
	if g.kept != nil {
		if r := g.kept.records[node]; r != nil && r.count > 0 {
			return entry{r.node, r.addr, r.count}, true
		}
	}
	i, found := slices.BinarySearchFunc(g.entries, node, func(e entry, id link.ID) int { return e.node.Compare(id) })
	if !found {
		return entry{}, false
	}
	return g.entries[i], true
}
