package overlay

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

const (
	maxUnacked     = 16      // messages to a peer that it has not acknowledged
	maxAnnouncing  = 64      // batches that are not confirmed
	maxPeerRecords = 100_000 // of one peer
)

// An ownRecord is how many members of a group this node hosts, at least one.
type ownRecord struct {
	version uint64
	count   uint32
}

// A waiter is a batch of announcements that is confirmed when no peer is owed a
// change of its version or an older one.
type waiter struct{ version, batch uint64 }

// An outbox is what a peer has yet to be told, and to confirm. It holds a key at
// most once, so that it is bounded by the number of keys.
type outbox struct {
	owed     []owedKey // oldest first
	owing    map[Key]bool
	unacked  []uint64 // for each message sent: the oldest version it tells
	acked    uint64   // messages
	joined   uint64   // version of the snapshot
	synced   bool     // the snapshot was sent
	tellLeft bool     // a leaving message is to follow
}

// An owedKey was first changed in version since after it was last told.
type owedKey struct {
	key   Key
	since uint64
}

func (o *outbox) owe(key Key, since uint64) {
	if !o.owing[key] {
		o.owing[key] = true
		o.owed = append(o.owed, owedKey{key, since})
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

// announce: this node hosts other numbers of members than before. A key is in it
// at most once. To be held back while the core is busy.
type announce struct {
	batch  uint64
	counts map[Key]uint32
}

func (e announce) apply(c *core) {
	c.version++
	for _, key := range slices.SortedFunc(maps.Keys(e.counts), Key.compare) {
		count := e.counts[key]
		if c.leaving || c.own[key].count == count {
			continue
		}
		c.setOwn(key, count)
	}
	c.waiting = append(c.waiting, waiter{c.version, e.batch})
	c.flushAll()
	c.confirm()
}

func (c *core) setOwn(key Key, count uint32) {
	if count == 0 {
		delete(c.own, key)
	} else {
		c.own[key] = ownRecord{c.version, count}
	}
	for _, p := range c.peers {
		p.outbox.owe(key, c.version)
	}
}

// leave: this node hosts nothing any more, tells so and dials nobody again. It is
// confirmed like an announcement.
type leave struct{ batch uint64 }

func (e leave) apply(c *core) {
	c.version++
	if !c.leaving {
		for _, key := range slices.SortedFunc(maps.Keys(c.own), Key.compare) {
			c.setOwn(key, 0)
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
	p.outbox = outbox{owing: map[Key]bool{}, joined: c.version, tellLeft: c.leaving}
	for _, key := range slices.SortedFunc(maps.Keys(c.own), Key.compare) {
		p.outbox.owe(key, c.version)
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
	n := min(len(o.owed), maxRecords)
	m := records{list: make([]record, 0, n)}
	for _, owed := range o.owed[:n] {
		delete(o.owing, owed.key)
		r := record{key: owed.key, version: c.version} // nothing hosted any more
		if own, ok := c.own[owed.key]; ok {
			r.version, r.count = own.version, own.count
		}
		m.list = append(m.list, r)
	}
	o.owed = o.owed[n:]
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
