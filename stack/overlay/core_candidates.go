package overlay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxCandidates = 1024
	maxDials      = 16                     // under way at once
	headStart     = 500 * time.Millisecond // of the lower id, when both could dial
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = 10 * time.Second
	banTime       = 10 * time.Second // for a peer that broke the protocol
	linkWait      = time.Second      // for a link to come up that was dialled with success
	giveUpAfter   = 2 * time.Minute  // without success or anybody offering it
)

// A candidate is a node without a link to this one, and where it may be.
type candidate struct {
	id       link.ID
	addrs    []netip.AddrPort // newest first, at most maxAddrs
	offered  time.Time        // last time
	next     time.Time        // not dialled before
	banned   time.Time        // links with it are closed until then
	failures int
	attempts int
	dialling bool
	tried    bool // a dial has failed, or a link was there before
}

// offered: somebody says that the node id may be at addr.
type offered struct {
	id   link.ID
	addr netip.AddrPort
}

func (e offered) apply(c *core) { c.offer(e.id, e.addr) }

func (c *core) offer(id link.ID, addr netip.AddrPort) {
	if c.leaving || id == c.self || !dialable(addr) {
		return
	}
	if _, linked := c.find(id); linked != nil {
		return
	}
	k := c.candidates[id]
	if k == nil {
		k = c.addCandidate(id, c.now.Add(c.headStartOf(id)))
	}
	k.offered = c.now
	k.learn(addr)
	// Who is offered again was seen again: a long backoff has lost its reason.
	if soon := c.now.Add(minBackoff); k.tried && k.next.After(soon) && !c.now.Before(k.banned) {
		k.next = soon
	}
}

// dialable tells whether a node can be at addr at all.
func dialable(addr netip.AddrPort) bool {
	ip := addr.Addr()
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && addr.Port() != 0
}

// headStartOf tells how long to leave the first dial to the other side.
func (c *core) headStartOf(id link.ID) time.Duration {
	if c.self.Compare(id) < 0 {
		return 0
	}
	return headStart
}

// addCandidate adds a candidate; where there is no room, the one that was offered
// the longest time ago goes.
func (c *core) addCandidate(id link.ID, next time.Time) *candidate {
	if len(c.candidates) >= maxCandidates {
		var oldest *candidate
		for _, k := range c.candidates {
			if !k.dialling && (oldest == nil || earlier(k.offered, oldest.offered, k, oldest)) {
				oldest = k
			}
		}
		delete(c.candidates, oldest.id) // there is one: fewer are being dialled
	}
	k := &candidate{id: id, next: next, offered: c.now}
	c.candidates[id] = k
	return k
}

// earlier orders candidates by a time of each, and by id where those are equal.
func earlier(at, bt time.Time, a, b *candidate) bool {
	return at.Before(bt) || at.Equal(bt) && a.id.Compare(b.id) < 0
}

// learn puts an address first.
func (k *candidate) learn(addr netip.AddrPort) {
	k.addrs = slices.DeleteFunc(k.addrs, func(a netip.AddrPort) bool { return a == addr })
	k.addrs = slices.Insert(k.addrs, 0, addr)
	k.addrs = k.addrs[:min(len(k.addrs), maxAddrs)]
	k.attempts = 0
}

// redial makes a candidate of a lost peer, unless it is gone for good.
func (c *core) redial(p *peer) {
	if p.leaving || c.leaving {
		return
	}
	k := c.addCandidate(p.id, c.now.Add(c.headStartOf(p.id)+c.backoff(1)))
	k.tried = true
	k.learn(p.addr)
}

// ban leaves a peer alone that broke the protocol.
func (c *core) ban(p *peer) {
	k := c.addCandidate(p.id, c.now.Add(banTime))
	k.banned = k.next
	k.tried = true
	k.learn(p.addr)
}

// dialDue starts the dials that are due, the longest overdue first.
func (c *core) dialDue() {
	for c.dialling < maxDials && !c.leaving {
		var due *candidate
		for _, k := range c.candidates {
			if !k.dialling && !c.now.Before(k.next) && (due == nil || earlier(k.next, due.next, k, due)) {
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
	}
}

// dialled: a dial has ended; ok means that the link came up or was up already.
type dialled struct {
	id link.ID
	ok bool
}

func (e dialled) apply(c *core) {
	c.dialling--
	k := c.candidates[e.id]
	if k == nil {
		return
	}
	k.dialling = false
	if e.ok { // its linkUp is on the way, or was followed by a linkDown
		k.next = c.now.Add(linkWait)
		return
	}
	k.tried = true
	k.failures++
	k.next = c.now.Add(c.backoff(k.failures))
	if k.next.Before(k.banned) {
		k.next = k.banned
	}
}

// backoff is the pause after so many failures, with jitter.
func (c *core) backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return d/2 + time.Duration(c.rng.Int64N(int64(d/2)))
}

// giveUpCandidates forgets those that nobody has seen for long.
func (c *core) giveUpCandidates() {
	for id, k := range c.candidates {
		if k.failures > 0 && !k.dialling && c.now.Sub(k.offered) >= giveUpAfter {
			delete(c.candidates, id)
		}
	}
}
