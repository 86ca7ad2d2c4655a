package overlay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	bucketSize     = 16 // contacts without a link, of those with as many bits in common with this node
	maxContacts    = 1024
	maxDials       = 16                     // under way at once
	headStart      = 500 * time.Millisecond // of the lower id, when both could dial
	minBackoff     = 100 * time.Millisecond
	soonBackoff    = 10 * time.Second // at most, in the first minutes
	vouchedBackoff = 2 * time.Second  // at most, where others say that it lives
	lateBackoff    = time.Minute      // at most, later
	soonFor        = 2 * time.Minute
	banTime        = 10 * time.Second // for a peer that broke the protocol
	linkWait       = time.Second      // for a link to come up that was dialled with success
	retryFor       = time.Hour        // a node that a link was lost to
	maxRetried     = 64               // such nodes
	freshFor       = 2 * time.Minute  // a contact that is told to others
	greetTime      = 2 * time.Minute  // in which a node that nobody knows is tried
	greetAll       = 8                // with fewer peers, whoever is offered is
	vetEvery       = time.Second      // one of the others is looked up
	maxStrangers   = 64               // of these
	maxFailures    = 2                // of a contact that never was a peer
	forgottenAge   = 10 * time.Minute // of a contact without a link
)

// A contact is a node that this one knows of.
type contact struct {
	id    link.ID
	addrs []netip.AddrPort // newest first, at most maxAddrs
	seen  time.Time        // when it was known to live
	peer  *peer            // nil: no link

	wanted   bool          // a link is, as of the last review
	until    time.Time     // or until then
	awaited  []func(*peer) // who wait for a link; they are told nil when none comes about
	next     time.Time     // not dialled before
	banned   time.Time     // links with it are closed until then
	lost     time.Time     // when its last link was; zero: there was none
	failures int           // since it was last a peer
	attempts int
	dialling bool
	failedAt time.Time
	tried    bool // a dial has failed, or a link was there before
	stranger bool // it was offered, and no peer has told of it
}

// offered: somebody says that the node id may be at addr.
type offered struct {
	id   link.ID
	addr netip.AddrPort
}

func (e offered) apply(c *core) {
	known := c.contacts[e.id] != nil
	few := len(c.peers)+c.dialling < greetAll
	if !known && !few && !c.roomForStrangers() {
		return // it will be offered again
	}
	k := c.learn(e.id, []netip.AddrPort{e.addr}, c.now, few)
	if k == nil || k.peer != nil {
		return
	}
	// One who is seen anew may belong to a part of the network that this node knows nothing of.
	switch {
	case few && !known || k.failures > 0:
		c.greet(k)
	case !known:
		k.stranger = true
		c.strangers = append(c.strangers, k)
	}
	// Who is offered again was seen again: a long backoff has lost its reason.
	if k.tried {
		c.retrySoon(k, c.now.Add(minBackoff))
	}
	c.dialSoon(k)
}

// greet wants a link to a node for a while.
func (c *core) greet(k *contact) { k.until = c.now.Add(greetTime) }

func (c *core) roomForStrangers() bool {
	if len(c.strangers) == maxStrangers {
		c.strangers = slices.DeleteFunc(c.strangers, func(k *contact) bool { return !k.stranger || c.contacts[k.id] != k })
	}
	return len(c.strangers) < maxStrangers
}

// vetStrangers finds out whether a node that was offered is of this part of the network: those closest
// to it know it then, and nothing more is to be done. Else it is greeted.
func (c *core) vetStrangers() {
	for len(c.strangers) > 0 && c.now.Sub(c.vetted) >= vetEvery {
		k := c.strangers[0]
		c.strangers = c.strangers[1:]
		if !k.stranger || c.contacts[k.id] != k {
			continue
		}
		c.vetted = c.now
		c.start(&lookup{target: k.id, linked: true, then: func(c *core, _ *lookup) {
			if k.stranger {
				k.stranger = false
				c.greet(k)
				c.dialSoon(k)
			}
		}})
	}
}

// learn notes that a node was at an address, and lived at some time. Where its
// bucket is full of others that were seen later it is not noted, unless it must be. The
// result is nil then, and where there can be no such node.
func (c *core) learn(id link.ID, addrs []netip.AddrPort, seen time.Time, must bool) *contact {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool { return !dialable(a) })
	if c.leaving || id == c.self || len(addrs) == 0 {
		return nil
	}
	k := c.contacts[id]
	if k == nil {
		if !c.makeRoom(id, seen, must) {
			return nil
		}
		k = &contact{id: id, next: c.now.Add(c.headStartOf(id))}
		c.contacts[id] = k
		i, _ := c.place(id)
		c.table = slices.Insert(c.table, i, k)
		c.stale = true
	}
	for _, a := range slices.Backward(addrs) {
		k.learn(a)
	}
	if seen.After(k.seen) {
		k.seen = seen
		if k.peer == nil && k.failures > 0 && k.usable() { // others have a link to it
			c.retrySoon(k, later(c.now, k.failedAt.Add(vouchedBackoff)))
		}
	}
	return k
}

// retrySoon shortens a backoff that has lost its reason.
func (c *core) retrySoon(k *contact, at time.Time) {
	if at.Before(k.next) && !c.now.Before(k.banned) {
		k.next = at
		c.dialSoon(k)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// place is where a contact is in the table, or would be.
func (c *core) place(id link.ID) (int, bool) {
	return slices.BinarySearchFunc(c.table, id, func(k *contact, id link.ID) int { return closer(c.self, k.id, id) })
}

// dialable tells whether a node can be at addr at all.
func dialable(addr netip.AddrPort) bool {
	ip := addr.Addr()
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && addr.Port() != 0
}

// bucket is the part of the table that shares exactly n bits with this node.
func (c *core) bucket(n int) []*contact {
	first, end := c.span(n)
	return c.table[first:end]
}

// span is where the bucket begins and ends in the table.
func (c *core) span(n int) (first, end int) {
	// The table is sorted by distance: more bits in common come first.
	first, _ = slices.BinarySearchFunc(c.table, n, func(k *contact, n int) int { return n - prefix(c.self, k.id) })
	end, _ = slices.BinarySearchFunc(c.table, n-1, func(k *contact, n int) int { return n - prefix(c.self, k.id) })
	return first, end
}

// makeRoom lets the worst contact go where the one of id would be one too many.
func (c *core) makeRoom(id link.ID, seen time.Time, must bool) bool {
	worst := func(among []*contact, tried bool) (w *contact, n int) {
		for _, k := range among {
			if k.peer != nil || k.wanted || k.dialling || k.awaited != nil || tried && c.now.Before(k.until) {
				continue
			}
			n++
			if w == nil || k.failures > w.failures || k.failures == w.failures && k.seen.Before(w.seen) {
				w = k
			}
		}
		return w, n
	}
	w, n := worst(c.bucket(prefix(c.self, id)), true)
	if n < bucketSize || must {
		if len(c.table) < maxContacts {
			return true
		}
		w, _ = worst(c.table, false)
	}
	if w == nil || !must && w.failures == 0 && !w.seen.Before(seen) {
		return false
	}
	c.forgetContact(w)
	return true
}

func (c *core) forgetContact(k *contact) {
	delete(c.contacts, k.id)
	if i, ok := c.place(k.id); ok {
		c.table = slices.Delete(c.table, i, i+1)
	}
}

// headStartOf tells how long to leave the first dial to the other side.
func (c *core) headStartOf(id link.ID) time.Duration {
	if c.self.Compare(id) < 0 {
		return 0
	}
	return headStart
}

// learn puts an address first.
func (k *contact) learn(addr netip.AddrPort) {
	if len(k.addrs) > 0 && k.addrs[0] == addr {
		return
	}
	k.addrs = slices.DeleteFunc(k.addrs, func(a netip.AddrPort) bool { return a == addr })
	k.addrs = slices.Insert(k.addrs, 0, addr)
	k.addrs = k.addrs[:min(len(k.addrs), maxAddrs)]
	k.attempts = 0
}

// usable tells whether a contact may be counted on.
func (k *contact) usable() bool {
	if k.peer != nil {
		return !k.peer.left
	}
	return !k.stranger && (k.failures == 0 || k.seen.Sub(k.failedAt) > time.Second) // others have seen it since
}

// info tells others of a contact.
func (c *core) info(k *contact) contactInfo {
	return contactInfo{k.id, uint8(min(c.now.Sub(k.seen)/time.Second, 255)), k.addrs}
}

// nearest lists the contacts closest to target that ok accepts, the closest first.
func (c *core) nearest(target link.ID, n int, ok func(*contact) bool) []*contact {
	list := make([]*contact, 0, n+1)
	consider := func(part []*contact) {
		for _, k := range part {
			if !ok(k) || len(list) == n && closer(target, k.id, list[n-1].id) > 0 {
				continue
			}
			i, _ := slices.BinarySearchFunc(list, k, func(a, b *contact) int { return closer(target, a.id, b.id) })
			list = slices.Insert(list, i, k)
			list = list[:min(len(list), n)]
		}
	}
	// Who shares more bits with the target than this node does is closest, then who
	// shares as many, which is who is closer to this node, then who shares fewer and fewer.
	shared := prefix(c.self, target)
	first, end := c.span(shared)
	consider(c.table[first:end])
	if len(list) < n {
		consider(c.table[:first])
	}
	for len(list) < n && end < len(c.table) {
		first, end = c.span(prefix(c.self, c.table[end].id))
		consider(c.table[first:end])
	}
	return list
}

// tellable lists what to tell a peer that asks for the contacts closest to target.
func (c *core) tellable(p *peer, target link.ID) []contactInfo {
	var list []contactInfo
	for _, k := range c.nearest(target, maxFound, func(k *contact) bool {
		return k != p.contact && k.usable() && c.now.Sub(k.seen) < freshFor
	}) {
		list = append(list, c.info(k))
	}
	return list
}

// reach: something is to be sent to a node without a link. A reached effect follows.
type reach struct{ id link.ID }

func (e reach) apply(c *core) {
	c.want(e.id, c.addrsOf(e.id), time.Time{}, func(p *peer) {
		if p != nil {
			c.use(p)
		}
		c.emit(reached{e.id, p != nil})
	})
}

// addrsOf is where a member of some group is said to be.
func (c *core) addrsOf(id link.ID) []netip.AddrPort {
	if c.contacts[id] != nil {
		return nil // it is known anyway
	}
	for _, g := range c.groups {
		if e, ok := g.member(id); ok && e.addr.IsValid() {
			return []netip.AddrPort{e.addr}
		}
	}
	return nil
}

// want wants a link to a node at once; then gets the peer, or nil if no link comes
// about.
func (c *core) want(id link.ID, addrs []netip.AddrPort, seen time.Time, then func(*peer)) {
	if p := c.peer(id); p != nil {
		then(p)
		return
	}
	k := c.learn(id, addrs, seen, true)
	if k == nil {
		k = c.contacts[id]
	}
	if k == nil || c.now.Before(k.banned) || c.leaving {
		then(nil)
		return
	}
	if k.awaited == nil && !k.dialling {
		k.next, k.attempts = c.now, 0
	}
	k.awaited = append(k.awaited, then)
	c.dialSoon(k)
}

// settleAwaited tells those who wait for a link to a contact.
func (k *contact) settleAwaited() {
	waiting := k.awaited
	k.awaited = nil
	for _, then := range waiting {
		then(k.peer)
	}
}

// dialSoon has the contact looked at when it is due.
func (c *core) dialSoon(k *contact) {
	if k.next.Before(c.dialAt) {
		c.dialAt = k.next
	}
}

// dialDue starts the dials that are due, the longest overdue first.
func (c *core) dialDue() {
	for c.dialling < maxDials && !c.leaving && !c.now.Before(c.dialAt) {
		var due *contact
		c.dialAt = c.now.Add(time.Hour)
		for _, k := range c.table {
			switch {
			case k.peer != nil || k.dialling || !c.dials(k):
			case k.next.After(c.now):
				c.dialSoon(k)
			case due == nil || k.next.Before(due.next):
				due = k
			}
		}
		if due == nil {
			return
		}
		c.emit(dial{due.id, due.addrs[due.attempts%len(due.addrs)]})
		due.attempts++
		due.dialling = true
		c.dialling++
		c.dialAt = c.now // there may be more
	}
}

// dials tells whether a contact is to be dialled when its time has come.
func (c *core) dials(k *contact) bool {
	return k.awaited != nil || k.wanted || c.now.Before(k.until) || !k.lost.IsZero() && c.now.Sub(k.lost) < retryFor
}

// dialled: a dial has ended; ok means that the link came up or was up already.
type dialled struct {
	id link.ID
	ok bool
}

func (e dialled) apply(c *core) {
	c.dialling--
	c.dialAt = c.now
	k := c.contacts[e.id]
	if k == nil {
		return
	}
	k.dialling = false
	if k.peer != nil {
		return
	}
	if e.ok { // its linkUp is on the way, or was followed by a linkDown
		k.next = c.now.Add(linkWait)
		return
	}
	c.failed(k)
}

// failed notes that a dial failed.
func (c *core) failed(k *contact) {
	k.tried, k.failedAt = true, c.now
	k.failures++
	k.next = c.now.Add(c.backoff(k))
	if k.next.Before(k.banned) {
		k.next = k.banned
	}
	if k.awaited != nil && k.attempts < len(k.addrs) {
		k.next = c.now // at its next address
		return
	}
	if c.hide(k.id) {
		k.until = c.now.Add(hideFor)
	}
	c.stale = true
	k.settleAwaited()
}

// backoff is the pause after so many failures, with jitter.
func (c *core) backoff(k *contact) time.Duration {
	most := soonBackoff
	if !k.lost.IsZero() && c.now.Sub(k.lost) > soonFor {
		most = lateBackoff
	}
	d := min(minBackoff<<min(k.failures, 10), most)
	return d/2 + time.Duration(c.rng.Int64N(int64(d/2)))
}

// forgetContacts lets go of contacts that are of no use, and of the oldest of those that
// are tried again and again where there are too many.
func (c *core) forgetContacts() {
	var retried []*contact
	for _, k := range slices.Clone(c.table) {
		switch {
		case k.peer != nil || k.dialling || k.awaited != nil || c.now.Before(k.until) || c.now.Before(k.banned):
		case !k.lost.IsZero() && c.now.Sub(k.lost) < retryFor:
			if k.failures > 0 {
				retried = append(retried, k)
			}
		case k.failures >= maxFailures || c.now.Sub(k.seen) > forgottenAge:
			c.forgetContact(k)
		}
	}
	if len(retried) > maxRetried {
		slices.SortFunc(retried, func(a, b *contact) int { return a.lost.Compare(b.lost) })
		for _, k := range retried[:len(retried)-maxRetried] {
			c.forgetContact(k)
		}
	}
}
