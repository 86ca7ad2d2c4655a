package overlay

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	keepers       = 8                // the nodes closest to a group's key, which keep its records
	maxAnnouncing = 64               // batches that are not confirmed
	checkAfter    = 16 * time.Second // pause from which on a keeper is only asked, not looked for
)

// A group is one that this node has to do with: it hosts members, or watches, or
// keeps the records for others.
type group struct {
	Group
	key Key

	// This node's stance, and the keeper that it is told to.
	count    uint32
	watch    bool
	version  uint64        // of the stance, as it was told last
	keeper   link.ID       // zero: none; this node's id: itself
	seeking  bool          // a keeper is being looked for
	sought   time.Time     // when one was last looked for
	pause    time.Duration // from then on until it is looked for again
	promises []*promise    // that wait for a keeper

	// What the keeper tells, and what the handler was told of it.
	entries []entry // sorted; not used while this node is the keeper
	whole   bool
	viewed  bool
	again   bool     // the keeper was told to begin anew
	shown   []Member // with shownWhole: the handler's last view
	pushed  bool     // there was one

	shownWhole bool
	kept       *kept // nil: this node keeps nothing of it
}

// A groupSet is a set of groups.
type groupSet map[*group]bool

// sorted lists the groups by kind and name.
func (s groupSet) sorted() []*group {
	return slices.SortedFunc(maps.Keys(s), byName)
}

func byName(a, b *group) int { return a.compare(b.Group) }

// concerns tells whether this node has a stance that others have to know.
func (g *group) concerns() bool { return g.count > 0 || g.watch }

// group yields what is known of a group, new if need be.
func (c *core) group(of Group) *group {
	key := of.Key()
	g := c.groups[key]
	if g == nil {
		g = &group{Group: of, key: key}
		c.groups[key] = g
	}
	return g
}

// tidy forgets a group that this node has nothing to do with.
func (c *core) tidy(g *group) {
	if !g.concerns() && len(g.promises) == 0 && !g.seeking && g.keeper == (link.ID{}) && g.kept == nil {
		delete(c.groups, g.key)
	}
}

// announce: this node hosts other numbers of members than before. A group is in
// it at most once. To be held back while the core is busy.
type announce struct {
	batch  uint64
	counts map[Group]uint32
}

func (e announce) apply(c *core) {
	pr := c.batch(e.batch)
	for _, of := range slices.SortedFunc(maps.Keys(e.counts), Group.compare) {
		if c.leaving {
			break
		}
		g := c.group(of)
		g.count = e.counts[of]
		g.promises = append(g.promises, pr.hold())
		c.changed(g)
	}
	pr.release()
}

// batch is the promise to confirm a batch. The caller holds it.
func (c *core) batch(number uint64) *promise {
	c.unconfirmed++
	return &promise{open: 1, then: func() {
		c.unconfirmed--
		c.emit(confirmed{number})
	}}
}

// busy tells that no more batches are to be announced for now.
func (c *core) busy() bool { return c.unconfirmed >= maxAnnouncing }

// watch: views of the group are wanted, the first one now.
type watch struct{ group Group }

func (e watch) apply(c *core) {
	g := c.group(e.group)
	if g.watch {
		g.pushed = false
		c.push(g)
		return
	}
	g.watch, g.pushed = true, false
	c.changed(g)
}

// unwatch: they are no longer.
type unwatch struct{ group Group }

func (e unwatch) apply(c *core) {
	g := c.groups[e.group.Key()]
	if g == nil || !g.watch {
		return
	}
	g.watch, g.viewed, g.entries, g.shown = false, false, nil, nil
	c.changed(g)
}

// leave: this node hosts nothing any more, tells so and dials nobody again. It is
// confirmed like an announcement.
type leave struct{ batch uint64 }

func (e leave) apply(c *core) {
	pr := c.batch(e.batch)
	if !c.leaving {
		for _, g := range c.all() {
			if g.count > 0 {
				g.count = 0
				g.promises = append(g.promises, pr.hold())
				c.changed(g)
			}
		}
		c.flushAll()
		c.leaving = true
		for _, p := range c.peers {
			c.send(p, leaving{})
		}
	}
	pr.release()
}

// all lists the groups by kind and name.
func (c *core) all() []*group { return slices.SortedFunc(maps.Values(c.groups), byName) }

// changed tells the keeper of a new stance, or looks for one.
func (c *core) changed(g *group) {
	switch {
	case g.keeper == c.self:
		c.tellSelf(g)
	case g.keeper != link.ID{}:
		c.tell(g, c.peer(g.keeper))
	case g.concerns():
		c.seek(g)
	default: // nobody knows of it
		c.keepPromises(g)
	}
	c.tidy(g)
}

func (c *core) keepPromises(g *group) {
	promises := g.promises
	g.promises = nil
	for _, pr := range promises {
		pr.release()
	}
}

// tell owes the keeper the stance.
func (c *core) tell(g *group, p *peer) {
	c.version++
	g.version = c.version
	b := c.owe(p, ofStance, g, nil)
	b.promises = append(b.promises, g.promises...)
	g.promises = nil
	if g.concerns() {
		p.told[g] = true
		c.watchSoon(p, p.heard.Add(pingSoon))
		return
	}
	delete(p.told, g)
	g.keeper = link.ID{}
}

// stanceTo is what is told to a peer of a group.
func (c *core) stanceTo(p *peer, g *group) stance {
	if g.keeper != p.id && g.concerns() {
		return stance{group: g.Group, gone: true}
	}
	return stance{group: g.Group, watch: g.watch, version: g.version, count: g.count}
}

// seek looks for a keeper of the group: one of the nodes closest to its key. While
// there is one already it stays until there is a better one.
func (c *core) seek(g *group) {
	if g.seeking || c.leaving {
		return
	}
	g.seeking = true
	c.lookup(link.ID(g.key), func(c *core, l *lookup) { c.choose(g, l) })
}

// check asks the keeper, or another one if this node is it, whether there are better ones.
// That is enough for a keeper that has been one for a while.
func (c *core) check(g *group) {
	of := c.peer(g.keeper)
	if g.keeper == c.self {
		if near := c.nearest(link.ID(g.key), 1, func(k *contact) bool { return k.peer != nil && !k.peer.left }); len(near) > 0 {
			of = near[0].peer
		}
	}
	if of == nil || g.pause < checkAfter {
		c.seek(g)
		return
	}
	if g.seeking || c.leaving {
		return
	}
	g.seeking = true
	l := &lookup{target: link.ID(g.key), brief: true, then: func(c *core, l *lookup) {
		if !l.answered() { // the one that was asked is lost
			g.seeking = false
			c.seek(g)
			return
		}
		c.choose(g, l)
	}}
	l.add(c.info(of.contact), 0)
	c.lookups = append(c.lookups, l)
	c.advance(l)
}

// choose takes one of the nodes that were found: this one if it is among them, or one that it
// has a link to, or else the one closest to it, so that they share the work.
func (c *core) choose(g *group, l *lookup) {
	var best []contactInfo
	among := false
	for _, w := range l.list {
		if w.state == failed {
			continue
		}
		among = among || len(best) < keepers && closer(l.target, c.self, w.id) < 0
		if len(best) == keepers || among && len(best) == keepers-1 {
			break
		}
		best = append(best, w.contactInfo)
	}
	if among || len(best) < keepers {
		c.settleOn(g, c.self)
		return
	}
	if slices.ContainsFunc(best, func(i contactInfo) bool { return i.id == g.keeper }) {
		c.settleOn(g, g.keeper)
		return
	}
	linked := func(i contactInfo) int {
		if p := c.peer(i.id); p != nil && !p.left {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(best, func(a, b contactInfo) int {
		return cmp.Or(cmp.Compare(linked(a), linked(b)), closer(c.self, a.id, b.id))
	})
	c.tryKeepers(g, best)
}

// tryKeepers settles on the first that can be reached.
func (c *core) tryKeepers(g *group, list []contactInfo) {
	if len(list) == 0 {
		c.found(g, true)
		return
	}
	c.want(list[0].id, list[0].addrs, c.seenAt(list[0]), func(p *peer) {
		if p == nil || p.left {
			c.tryKeepers(g, list[1:])
			return
		}
		c.settleOn(g, p.id)
	})
}

// settleOn makes a node the keeper that the stance is told to, and takes leave of the
// former one once the new one has confirmed.
func (c *core) settleOn(g *group, keeper link.ID) {
	former := g.keeper
	c.found(g, former != keeper)
	if former == keeper && former != (link.ID{}) || !g.concerns() {
		if former == (link.ID{}) {
			c.keepPromises(g)
		}
		c.tidy(g)
		return
	}
	if former == c.self { // what is shown stays until the new keeper tells more
		g.entries, g.whole, g.viewed = g.kept.entries(c.self), len(g.kept.members) <= maxWhole, g.kept.ready
	}
	g.keeper = keeper
	if former != (link.ID{}) {
		g.promises = append(g.promises, &promise{open: 1, then: func() { c.takeLeave(g, former) }})
	}
	if keeper == c.self {
		c.tellSelf(g)
		return
	}
	p := c.peer(keeper)
	again := p.told[g] || p.outbox.owes(ofStance, g) // it was left for another one, and has not been told so: its views were not heeded since
	g.again = again
	c.tell(g, p)
	if again {
		c.owe(p, ofStance, g, nil).again = true
	}
}

// found ends looking for a keeper. A new one is looked at again soon, and later more and
// more seldom: who has just come, or is among others who have, does not know all yet.
func (c *core) found(g *group, anew bool) {
	g.seeking = false
	if g.pause *= 2; anew {
		g.pause = reviewEvery
	}
	g.pause = min(g.pause, refreshEvery)
	g.sought = c.now.Add(time.Duration(c.rng.Int64N(int64(g.pause / 2))))
}

// takeLeave tells a former keeper that another one is told now.
func (c *core) takeLeave(g *group, former link.ID) {
	if g.keeper == former {
		return
	}
	if former == c.self {
		c.leaveSelf(g)
		return
	}
	if p := c.peer(former); p != nil && p.told[g] {
		delete(p.told, g)
		c.owe(p, ofStance, g, nil)
	}
}

// receive looks for a keeper again where the present one is not among the closest any
// more.
func (m moved) receive(c *core, p *peer) error {
	c.learnAll(m.list)
	if g := c.groups[m.key]; g != nil && g.keeper == p.id {
		c.seek(g)
	}
	return nil
}

// reviewGroups looks after the keepers of this node's groups, and after what it keeps.
// changed: somebody came or went since the last review.
func (c *core) reviewGroups(changed bool) {
	for _, g := range c.all() {
		if g.concerns() && c.now.Sub(g.sought) >= g.pause {
			c.check(g)
		}
		if k := g.kept; k != nil && (changed || !k.ready || c.now.Sub(k.warned) < warnEvery || c.now.Sub(k.reviewed) >= shunTime) {
			c.reviewKept(g)
		}
		c.tidy(g)
	}
}
