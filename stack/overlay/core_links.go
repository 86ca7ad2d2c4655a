package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// linkUp: a link to id is there. Numbers of links are never used twice.
type linkUp struct {
	link uint64
	id   link.ID
	addr netip.AddrPort
}

func (e linkUp) apply(c *core) {
	if k := c.contacts[e.id]; k != nil && c.now.Before(k.banned) {
		c.emit(closeLink{e.link, closeProtocol})
		return
	}
	if old := c.peer(e.id); old != nil {
		c.drop(old, false) // a new link begins anew
	}
	k := c.learn(e.id, []netip.AddrPort{e.addr}, c.now, true)
	if k == nil { // this node is leaving, or has so many links
		k = &contact{id: e.id, addrs: []netip.AddrPort{e.addr}}
	}
	p := &peer{
		id: e.id, contact: k, link: e.link, since: c.now, heard: c.now, spoke: c.now, needed: true,
		told: groupSet{}, tells: groupSet{}, keeps: groupSet{}, hosts: groupSet{},
	}
	i, _ := c.find(e.id)
	c.peers = slices.Insert(c.peers, i, p)
	c.links[e.link] = p
	c.watchAt(p, c.now)
	// One who was lost may lead to others who were.
	reunited := !k.lost.IsZero() && c.now.Sub(c.joined) >= rejoinEvery
	k.peer, k.stranger, k.failures, k.tried, k.lost, k.until = p, false, 0, true, time.Time{}, time.Time{}
	c.stale = true
	if c.leaving {
		c.send(p, leaving{})
	}
	c.send(p, found{0, c.tellable(p, p.id)})
	if (len(c.peers) == 1 || reunited) && !c.joining {
		c.join()
	}
	c.show(p.id)
	c.meetNew(p)
	k.settleAwaited()
}

// linkDown: a link has ended; idle: because it was given up.
type linkDown struct {
	link uint64
	idle bool
}

func (e linkDown) apply(c *core) {
	if p := c.links[e.link]; p != nil {
		c.drop(p, !e.idle)
	}
}

// control: a message came on the control stream of a link.
type control struct {
	link uint64
	msg  []byte
}

func (e control) apply(c *core) {
	p := c.links[e.link]
	if p == nil {
		return
	}
	c.hear(p)
	p.spoke, p.asked = c.now, time.Time{}
	m, err := parseMessage(e.msg)
	if err == nil {
		err = m.receive(c, p)
	}
	if err != nil {
		broken(e.link).apply(c)
	}
}

// broken: the peer at the other end of a link broke the protocol.
type broken uint64

func (e broken) apply(c *core) {
	p := c.links[uint64(e)]
	if p == nil {
		return
	}
	c.emit(closeLink{p.link, closeProtocol})
	p.left = false // whoever leaves is forgotten, and so would the ban be
	c.drop(p, true)
	p.contact.banned = c.now.Add(banTime)
	p.contact.next = p.contact.banned
}

// receive notes that a peer is about to go: it hosts and keeps nothing any more.
func (leaving) receive(c *core, p *peer) error {
	if p.left {
		return fmt.Errorf("%w: leaving twice", errMalformed)
	}
	p.left = true
	c.detach(p)
	c.stale = true
	return nil
}

// drop forgets a link: views without the peer, then the news that it is lost. gone
// tells that the peer may be.
func (c *core) drop(p *peer, gone bool) {
	i, _ := c.find(p.id)
	c.peers = slices.Delete(c.peers, i, i+1)
	delete(c.links, p.link)
	k := p.contact
	k.peer = nil
	c.stale = true
	if len(c.peers) <= fewPeers { // now they matter
		for _, q := range c.peers {
			c.watchSoon(q, c.now)
		}
	}
	switch {
	case p.left:
		c.forgetContact(k)
	case gone:
		k.lost, k.failedAt, k.failures = c.now, c.now, 1
		k.next = c.now.Add(c.headStartOf(k.id) + c.backoff(k))
		c.dialSoon(k)
	default:
		k.tried = true
	}
	c.detach(p) // it is not among those that may take its place
	c.abandon(p, gone)
	if gone {
		c.hide(p.id)
	}
	c.failQueries(p.id)
	c.emit(lost{p.id})
}

// receive offers to give a link up that nobody needs.
func (release) receive(c *core, p *peer) error {
	if !p.offered.IsZero() && c.self.Compare(p.id) > 0 {
		return nil // both have offered: the other one gives it up
	}
	if c.needs(p) {
		c.send(p, keep{})
		if !p.offered.IsZero() { // this node's own offer will not be answered
			p.offered = time.Time{}
			c.emit(resumeLink{p.link})
		}
		return nil
	}
	c.emit(giveUpLink{p.link})
	return nil
}

// receive is told that the peer needs the link.
func (keep) receive(c *core, p *peer) error {
	c.use(p)
	p.offered = time.Time{}
	c.emit(resumeLink{p.link})
	return nil
}
