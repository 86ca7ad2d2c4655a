package overlay

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

const (
	maxUnacked     = 16       // messages to a peer that it has not acknowledged: half of what a control stream queues
	maxTold        = 32 << 10 // bytes of a records message that is sent
	maxAnnouncing  = 64       // batches that are not confirmed
	maxPeerRecords = 100_000  // of one peer
)

// An ownRecord is how many members of a group this node hosts, at least one.
type ownRecord struct {
	version uint64
	count   uint32
}

// A waiter is a batch of announcements that is confirmed when no peer is owed a
// change of its version or an older one.
type waiter struct{ version, batch uint64 }

// An outbox is what a peer has yet to be told, and to confirm. It holds a group
// at most once, so that it is bounded by their number.
type outbox struct {
	owed     []owedGroup // oldest first
	owing    map[Group]bool
	unacked  []uint64 // for each message sent: the oldest version it tells
	acked    uint64   // messages
	joined   uint64   // version of the snapshot
	synced   bool     // the snapshot was sent
	tellLeft bool     // a leaving message is to follow
}

// An owedGroup was first changed in version since after it was last told.
type owedGroup struct {
	group Group
	since uint64
}

func (o *outbox) owe(group Group, since uint64) {
	if !o.owing[group] {
		o.owing[group] = true
		o.owed = append(o.owed, owedGroup{group, since})
	}
}

// unconfirmed is the oldest version that the peer may not know.
func (o *outbox) unconfirmed() uint64 {
	if len(o.unacked) > 0 {
		return o.unacked[0]
	}
	if len(o.owed) > 0 {
		return o.owed[0].since
	}
	return math.MaxUint64
}

// announce: this node hosts other numbers of members than before. A group is in
// it at most once. To be held back while the core is busy.
type announce struct {
	batch  uint64
	counts map[Group]uint32
}

func (e announce) apply(c *core) {
	c.version++
	for _, group := range slices.SortedFunc(maps.Keys(e.counts), Group.compare) {
		count := e.counts[group]
		if c.leaving || c.own[group].count == count {
			continue
		}
		c.setOwn(group, count)
	}
	c.waiting = append(c.waiting, waiter{c.version, e.batch})
	c.flushAll()
	c.confirm()
}

func (c *core) setOwn(group Group, count uint32) {
	if count == 0 {
		delete(c.own, group)
	} else {
		c.own[group] = ownRecord{c.version, count}
	}
	for _, p := range c.peers {
		p.outbox.owe(group, c.version)
	}
}

// leave: this node hosts nothing any more, tells so and dials nobody again. It is
// confirmed like an announcement.
type leave struct{ batch uint64 }

func (e leave) apply(c *core) {
	c.version++
	if !c.leaving {
		for _, group := range slices.SortedFunc(maps.Keys(c.own), Group.compare) {
			c.setOwn(group, 0)
		}
		for _, p := range c.peers {
			p.outbox.tellLeft = true
		}
		c.leaving = true
		clear(c.candidates)
	}
	c.waiting = append(c.waiting, waiter{c.version, e.batch})
	c.flushAll()
	c.confirm()
}

// busy tells that no more batches are to be announced for now.
func (c *core) busy() bool { return len(c.waiting) >= maxAnnouncing }

// oweSnapshot begins a link: the peer is to be told everything.
func (c *core) oweSnapshot(p *peer) {
	p.outbox = outbox{owing: map[Group]bool{}, joined: c.version, tellLeft: c.leaving}
	for _, group := range slices.SortedFunc(maps.Keys(c.own), Group.compare) {
		p.outbox.owe(group, c.version)
	}
}

func (c *core) flushAll() {
	for _, p := range c.peers {
		c.flush(p)
	}
}

// flush tells a peer what it is owed, as far as it keeps up.
func (c *core) flush(p *peer) {
	o := &p.outbox
	for len(o.unacked) < maxUnacked && (len(o.owed) > 0 || !o.synced) {
		c.tell(p)
	}
	if len(o.unacked) < maxUnacked && len(o.owed) == 0 && o.tellLeft {
		o.tellLeft = false
		o.unacked = append(o.unacked, c.version)
		c.send(p, leaving{})
	}
}

// tell sends the first of what a peer is owed, in one message.
func (c *core) tell(p *peer) {
	o := &p.outbox
	oldest := c.version
	if len(o.owed) > 0 {
		oldest = o.owed[0].since
	}
	var m records
	for bytes := 0; len(o.owed) > 0 && len(m.list) < maxRecords; {
		owed := o.owed[0]
		if bytes += recordSize + len(owed.group.Name); bytes > maxTold {
			break
		}
		o.owed = o.owed[1:]
		delete(o.owing, owed.group)
		r := record{group: owed.group, version: c.version} // nothing hosted any more
		if own, ok := c.own[owed.group]; ok {
			r.version, r.count = own.version, own.count
		}
		m.list = append(m.list, r)
	}
	if !o.synced && (len(o.owed) == 0 || o.owed[0].since > o.joined) {
		o.synced, m.synced = true, true
	}
	o.unacked = append(o.unacked, oldest)
	c.send(p, m)
}

// receive takes messages off the peer's unconfirmed ones.
func (m ack) receive(c *core, p *peer) error {
	o := &p.outbox
	if m.sequence <= o.acked || m.sequence > o.acked+uint64(len(o.unacked)) {
		return fmt.Errorf("%w: ack of %d after %d", errMalformed, m.sequence, o.acked)
	}
	o.unacked = o.unacked[m.sequence-o.acked:]
	o.acked = m.sequence
	c.flush(p)
	c.confirm()
	return nil
}

// confirm confirms the batches that all peers know.
func (c *core) confirm() {
	oldest := uint64(math.MaxUint64)
	for _, p := range c.peers {
		oldest = min(oldest, p.outbox.unconfirmed())
	}
	for len(c.waiting) > 0 && c.waiting[0].version < oldest {
		c.emit(confirmed{c.waiting[0].batch})
		c.waiting = c.waiting[1:]
	}
}
