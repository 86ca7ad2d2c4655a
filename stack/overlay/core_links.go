package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/project-iris/iris/stack/link"
)

// linkUp: a link to id is there. Numbers of links are never used twice.
type linkUp struct {
	link uint64
	id   link.ID
	addr netip.AddrPort
}

func (e linkUp) apply(c *core) {
	if k := c.candidates[e.id]; k != nil && c.now.Before(k.banned) {
		c.emit(closeLink{e.link, closeProtocol})
		return
	}
	if _, old := c.find(e.id); old != nil {
		c.drop(old) // what it hosts is told anew on the new link
	}
	delete(c.candidates, e.id)
	p := &peer{id: e.id, addr: e.addr, link: e.link, heard: c.now, records: map[Group]record{}}
	c.introduce(p)
	i, _ := c.find(e.id)
	c.peers = slices.Insert(c.peers, i, p)
	c.oweSnapshot(p)
	c.flush(p)
}

// introduce tells a new peer of the others and the others of it.
func (c *core) introduce(p *peer) {
	var others peerList
	for _, o := range c.peers {
		if !o.leaving {
			others = append(others, contact{o.id, []netip.AddrPort{o.addr}})
		}
	}
	for part := range slices.Chunk(others, maxPeers) {
		c.send(p, part)
	}
	for _, o := range c.peers {
		c.send(o, peerList{contact{p.id, []netip.AddrPort{p.addr}}})
	}
}

// linkDown: a link has ended.
type linkDown struct{ link uint64 }

func (e linkDown) apply(c *core) {
	if p := c.onLink(e.link); p != nil {
		c.drop(p)
		c.redial(p)
	}
}

// control: a message came on the control stream of a link.
type control struct {
	link uint64
	msg  []byte
}

func (e control) apply(c *core) {
	p := c.onLink(e.link)
	if p == nil {
		return
	}
	p.heard = c.now
	m, err := parseMessage(e.msg)
	if err == nil {
		err = m.receive(c, p)
	}
	if err != nil {
		c.emit(closeLink{p.link, closeProtocol})
		c.drop(p)
		c.ban(p)
	}
}

// receive learns other nodes from a peer.
func (m peerList) receive(c *core, p *peer) error {
	for _, contact := range m {
		for _, addr := range contact.addrs {
			c.offer(contact.id, addr)
		}
	}
	return nil
}

// receive notes that a peer is about to go: it hosts nothing any more.
func (leaving) receive(c *core, p *peer) error {
	if p.leaving {
		return fmt.Errorf("%w: leaving twice", errMalformed)
	}
	p.leaving = true
	c.forgetRecords(p)
	c.acknowledge(p)
	return nil
}

// drop forgets a peer: views without it, then the news that it is lost.
func (c *core) drop(p *peer) {
	i, _ := c.find(p.id)
	c.peers = slices.Delete(c.peers, i, i+1)
	c.forgetRecords(p)
	c.emit(lost{p.id})
	c.confirm()
}

// forgetRecords takes all that a peer hosts out of the groups.
func (c *core) forgetRecords(p *peer) {
	for _, group := range slices.SortedFunc(maps.Keys(p.records), Group.compare) {
		c.setMember(group, p.id, 0)
	}
	clear(p.records)
}
