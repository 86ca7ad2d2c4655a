package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxUnacked = 16       // messages to a peer that it has not acknowledged: half of what a control stream queues
	maxTold    = 32 << 10 // bytes of names in a stances message that is sent
)

// A promise is kept once everybody shows something: then is called when nobody
// holds it open any more.
type promise struct {
	open int
	then func()
}

func (pr *promise) hold() *promise {
	if pr != nil {
		pr.open++
	}
	return pr
}

func (pr *promise) release() {
	if pr == nil {
		return
	}
	if pr.open--; pr.open == 0 {
		pr.then()
	}
}

// A class is what a peer is to be told about a group.
type class int

const (
	ofStance  class = iota // this node's stance
	ofReplica              // records that this node answers for
	ofView                 // changes of the view
)

// A parcel is what a peer has yet to be told of a group, and who waits for that. What
// is told is what is true when it is sent, so that a parcel is bounded by the number
// of nodes.
type parcel struct {
	class    class
	group    *group
	nodes    []link.ID
	has      map[link.ID]bool
	first    bool // a view from the start
	anew     bool // records, and the peer is to tell its own
	again    bool // a stance as if it had not been told before
	promises []*promise
}

type parcelKey struct {
	class class
	group *group
}

// An outbox is what a peer has yet to be told, and to confirm.
type outbox struct {
	owed     []*parcel // oldest first
	index    map[parcelKey]*parcel
	sequence uint64 // of the last message
	unacked  []sent
	queued   bool // it is flushed at the end of the step
}

// A sent message waits for its ack.
type sent struct {
	sequence uint64
	parcels  []*parcel
}

// owe has a peer told something of a group, about one node where it is not all of
// it. pr, if there is one, is held until the peer has confirmed it or is gone.
func (c *core) owe(p *peer, what class, g *group, pr *promise) *parcel {
	o := &p.outbox
	key := parcelKey{what, g}
	b := o.index[key]
	if b == nil {
		if o.index == nil {
			o.index = map[parcelKey]*parcel{}
		}
		b = &parcel{class: what, group: g}
		o.index[key] = b
		o.owed = append(o.owed, b)
	}
	if pr != nil {
		b.promises = append(b.promises, pr.hold())
	}
	if !o.queued {
		o.queued = true
		c.owing = append(c.owing, p)
	}
	return b
}

func (b *parcel) about(node link.ID) {
	if !b.has[node] {
		if b.has == nil {
			b.has = map[link.ID]bool{}
		}
		b.has[node] = true
		b.nodes = append(b.nodes, node)
	}
}

// flushAll tells peers what they are owed, as far as they keep up.
func (c *core) flushAll() {
	for len(c.owing) > 0 {
		owing := c.owing
		c.owing = nil
		for _, p := range owing {
			p.outbox.queued = false
			if c.links[p.link] == p {
				c.flush(p)
			}
		}
	}
}

func (c *core) flush(p *peer) {
	o := &p.outbox
	for len(o.unacked) < maxUnacked && len(o.owed) > 0 {
		o.sequence++
		s := sent{sequence: o.sequence}
		var m message
		switch o.owed[0].class {
		case ofStance:
			m = c.packStances(p, &s)
		case ofReplica:
			m = c.packReplica(p, &s)
		case ofView:
			m = c.packView(p, &s)
		}
		o.unacked = append(o.unacked, s)
		c.send(p, m)
	}
}

// owes tells whether the peer has yet to be told something of a group.
func (o *outbox) owes(what class, g *group) bool { return o.index[parcelKey{what, g}] != nil }

// next takes the first parcel.
func (o *outbox) next() *parcel {
	b := o.owed[0]
	o.owed[0] = nil
	o.owed = o.owed[1:]
	delete(o.index, parcelKey{b.class, b.group})
	return b
}

func (c *core) packStances(p *peer, s *sent) message {
	o := &p.outbox
	m := stances{sequence: s.sequence}
	for bytes := 0; len(o.owed) > 0 && o.owed[0].class == ofStance && len(m.list) < maxStances; {
		if bytes += stanceSize + len(o.owed[0].group.Name); bytes > maxTold {
			break
		}
		if o.owed[0].again && len(m.list) == maxStances-1 {
			break
		}
		b := o.next()
		s.parcels = append(s.parcels, b)
		if b.again {
			m.list = append(m.list, stance{group: b.group.Group, gone: true})
		}
		m.list = append(m.list, c.stanceTo(p, b.group))
	}
	return m
}

func (c *core) packReplica(p *peer, s *sent) message {
	o := &p.outbox
	m := replica{sequence: s.sequence}
	records := 0
	for bytes := 0; len(o.owed) > 0 && o.owed[0].class == ofReplica && len(m.list) < maxShares-1 && records < maxReplicas; {
		if bytes += 2 * (shareSize + len(o.owed[0].group.Name)); bytes > maxTold {
			break
		}
		b := o.next()
		s.parcels = append(s.parcels, b)
		sh := share{group: b.group.Group, keeping: b.group.kept != nil && b.group.kept.co.has(p)}
		sh.anew = sh.keeping && b.anew
		orphans := share{group: b.group.Group, keeping: true, orphans: true}
		now, later := b.split(maxReplicas - records)
		for _, node := range now {
			if !sh.keeping {
				break
			}
			switch r := b.group.kept.records[node]; {
			case r == nil:
			case r.by == c.self:
				sh.list = append(sh.list, r.replicated())
			case c.orphaned(r):
				orphans.list = append(orphans.list, r.replicated())
			}
		}
		records += len(now)
		m.list = append(m.list, sh)
		if len(orphans.list) > 0 {
			m.list = append(m.list, orphans)
		}
		c.oweRest(p, b, later)
	}
	return m
}

func (r *record) replicated() replicated { return replicated{r.node, r.addr, r.version, r.count} }

// split cuts what a parcel is about after n nodes.
func (b *parcel) split(n int) (now, later []link.ID) {
	n = min(n, len(b.nodes))
	return b.nodes[:n], b.nodes[n:]
}

// oweRest makes another parcel of what one message could not hold. Who waits, waits for
// that.
func (c *core) oweRest(p *peer, b *parcel, rest []link.ID) {
	if len(rest) == 0 {
		return
	}
	more := c.owe(p, b.class, b.group, nil)
	for _, node := range rest {
		more.about(node)
	}
	more.promises, b.promises = append(more.promises, b.promises...), nil
}

func (c *core) packView(p *peer, s *sent) message {
	b := p.outbox.next()
	s.parcels = append(s.parcels, b)
	m := view{sequence: s.sequence, first: b.first, key: b.group.key}
	if b.group.kept == nil || b.group.kept.watchers[p] == nil {
		return m // it does not watch any more, and ignores this
	}
	w := b.group.kept.watchers[p]
	m.whole = !w.part
	if b.first {
		m.list = b.group.kept.entries(p.id)
		return m
	}
	now, later := b.split(maxView)
	for _, node := range now {
		e := entry{node: node}
		if r := b.group.kept.records[node]; r != nil && (!w.part || w.shown[node]) {
			e.addr, e.count = r.addr, r.count
		}
		m.list = append(m.list, e)
	}
	c.oweRest(p, b, later)
	return m
}

// acknowledge confirms a peer's message.
func (c *core) acknowledge(p *peer, sequence uint64) {
	if c.links[p.link] == p {
		c.send(p, ack{sequence})
	}
}

// receive keeps the promises that waited for a message to be confirmed.
func (m ack) receive(c *core, p *peer) error {
	o := &p.outbox
	i := slices.IndexFunc(o.unacked, func(s sent) bool { return s.sequence == m.sequence })
	if i < 0 {
		return fmt.Errorf("%w: ack of %d, which does not wait for one", errMalformed, m.sequence)
	}
	parcels := o.unacked[i].parcels
	o.unacked = slices.Delete(o.unacked, i, i+1)
	for _, b := range parcels {
		for _, pr := range b.promises {
			pr.release()
		}
	}
	c.flush(p)
	return nil
}

// abandon lets go of what a peer will not confirm. A stance is told to another
// keeper instead. What a keeper that is gone should have shown to others is taken as shown
// when these have had time to find another keeper. It comes behind detach, so that nothing
// is owed to the peer any more.
func (c *core) abandon(p *peer, gone bool) {
	o := &p.outbox
	parcels := o.owed
	for _, s := range o.unacked {
		parcels = append(parcels, s.parcels...)
	}
	p.outbox = outbox{sequence: o.sequence}
	for _, b := range parcels {
		switch {
		case b.class == ofStance && !c.leaving && b.group.concerns() && c.groups[b.group.key] == b.group:
			b.group.promises = append(b.group.promises, b.promises...)
			if b.group.keeper != (link.ID{}) && len(b.promises) > 0 {
				c.changed(b.group) // it has another one already
			}
		case b.class == ofReplica && gone && !p.left && len(b.promises) > 0:
			c.late = append(c.late, latePromises{c.now.Add(adoptTime), b.promises})
		default:
			for _, pr := range b.promises {
				pr.release()
			}
		}
	}
}

const adoptTime = time.Second // in which those that lost their keeper find another

// latePromises are released at some time.
type latePromises struct {
	at   time.Time
	list []*promise
}

func (c *core) releaseLate() {
	for len(c.late) > 0 && !c.now.Before(c.late[0].at) {
		list := c.late[0].list
		c.late = c.late[1:]
		for _, pr := range list {
			pr.release()
		}
	}
}
