package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const readyWait = 2 * time.Second // at most, until other keepers have told what they know

// closestTo lists the nodes other than this one that should keep a group, and tells
// whether this one should.
func (c *core) closestTo(key Key) (list []*contact, self bool) {
	list = c.nearest(link.ID(key), keepers, (*contact).usable)
	if len(list) < keepers || closer(link.ID(key), c.self, list[len(list)-1].id) < 0 {
		return list[:min(len(list), keepers-1)], true
	}
	return list, false
}

// meetKeepers makes the acquaintance of those keepers of a group that this node does
// not know yet. pr, if there is one, is held until they are told what it answers for.
func (c *core) meetKeepers(g *group, pr *promise) {
	list, _ := c.closestTo(g.key)
	k := g.kept
	ready := &promise{open: 1, then: func() { c.becomeReady(g, k) }}
	for _, o := range list {
		if o.peer != nil && k.co.has(o.peer) || c.now.Sub(k.shunned[o.id]) < shunTime {
			continue
		}
		pr.hold()
		ready.hold()
		c.want(o.id, o.addrs, o.seen, func(p *peer) {
			if p == nil || p.left || g.kept != k {
				ready.release()
			} else if c.meet(g, p, pr) {
				k.hearing[p] = ready
			} else {
				ready.release() // it was heard already
			}
			pr.release()
		})
	}
	ready.release()
}

// heardFrom notes that a fellow keeper has told what it knows, or will not.
func (k *kept) heardFrom(p *peer) {
	if ready := k.hearing[p]; ready != nil {
		delete(k.hearing, p)
		ready.release()
	}
}

// becomeReady shows a group to those who watch it.
func (c *core) becomeReady(g *group, k *kept) {
	if g.kept != k || k.ready {
		return
	}
	k.ready = true
	for _, p := range k.attached {
		if k.watchers[p] != nil {
			c.showAll(g, p)
		}
	}
	c.push(g)
}

// meet makes a peer a fellow keeper of a group, tells it what this node answers for, and
// asks for the same. It returns false if it is one already.
func (c *core) meet(g *group, p *peer, pr *promise) bool {
	if g.kept.co.has(p) || p.left {
		return false
	}
	c.tellAll(g, p, pr).anew = true
	return true
}

// tellAll makes a peer a fellow keeper, and owes it all that this node answers for, who left
// included, or nobody does.
func (c *core) tellAll(g *group, p *peer, pr *promise) *parcel {
	g.kept.co.add(p)
	p.keeps[g] = true
	b := c.owe(p, ofReplica, g, pr)
	var nodes []link.ID
	for node, r := range g.kept.records {
		if r.by == c.self || c.orphaned(r) {
			nodes = append(nodes, node)
		}
	}
	slices.SortFunc(nodes, link.ID.Compare)
	for _, node := range nodes {
		b.about(node)
	}
	return b
}

// meetNew makes a new peer a fellow keeper of the groups that it should keep.
func (c *core) meetNew(p *peer) {
	for _, g := range c.all() {
		if g.kept == nil {
			continue
		}
		if list, self := c.closestTo(g.key); self && slices.Contains(list, p.contact) {
			c.meet(g, p, nil)
		}
	}
}

// reviewKept sees to it that the closest nodes keep a group, and nobody else.
func (c *core) reviewKept(g *group) {
	k := g.kept
	if k == nil {
		return
	}
	k.reviewed = c.now
	if !k.ready && c.now.Sub(k.began) >= readyWait {
		c.becomeReady(g, k)
	}
	list, self := c.closestTo(g.key)
	if self {
		c.meetKeepers(g, nil)
		if len(k.records) == 0 && len(k.attached) == 0 && !k.self {
			c.endKeeping(g)
		}
		return
	}
	if k.self {
		c.seek(g)
	}
	if len(k.attached) == 0 && !k.self {
		c.endKeeping(g)
		return
	}
	switch since := c.now.Sub(k.warned); {
	case since < reviewEvery:
		return
	case since < warnEvery: // as long as its clients do not move, it answers for them
		c.meetKeepers(g, nil)
		return
	}
	k.warned = c.now
	for _, p := range k.attached {
		m := moved{key: g.key}
		for _, o := range list {
			if o != p.contact {
				m.list = append(m.list, c.info(o))
			}
		}
		c.send(p, m)
	}
}

// endKeeping tells the other keepers that this node is none any more.
func (c *core) endKeeping(g *group) {
	for _, p := range g.kept.attached {
		g.kept.unwatch(p)
	}
	for _, p := range slices.Clone(g.kept.co) {
		delete(p.keeps, g)
		delete(p.hosts, g)
		g.kept.co.remove(p)
		c.owe(p, ofReplica, g, nil)
	}
	g.kept = nil
}

// receive takes the records that a fellow keeper answers for.
func (m replica) receive(c *core, p *peer) error {
	pr := &promise{open: 1, then: func() { c.acknowledge(p, m.sequence) }}
	defer pr.release()
	for _, s := range m.list {
		if p.left { // what it had to tell ended with that
			break
		}
		if len(p.keeps) >= maxPeerGroups {
			return fmt.Errorf("%w: records of more than %d groups", errMalformed, maxPeerGroups)
		}
		c.takeShare(p, s, pr)
	}
	return nil
}

func (c *core) takeShare(p *peer, s share, pr *promise) {
	if !s.keeping {
		if g := c.groups[s.group.Key()]; g != nil && g.kept != nil {
			c.partFrom(g, p)
			g.kept.shunned[p.id] = c.now
		}
		return
	}
	g := c.group(s.group)
	k, fresh := c.keep(g)
	delete(k.shunned, p.id)
	if s.anew && !p.left {
		c.tellAll(g, p, nil)
	} else {
		c.meet(g, p, nil)
	}
	if fresh {
		c.stale = true
		c.meetKeepers(g, nil)
	}
	by := p.id
	if s.orphans {
		by = link.ID{}
	}
	for _, r := range s.list {
		if !r.addr.IsValid() {
			r.addr = p.contact.addrs[0]
		}
		c.takeRecord(g, record{node: r.node, addr: r.addr, version: r.version, count: r.count, by: by}, pr)
	}
	k.heardFrom(p)
}
