package overlay

import (
	"time"
)

const (
	reviewEvery  = time.Second
	closePeers   = 16               // the closest nodes, to all of which a node keeps links
	bucketPeers  = 2                // of each bucket beyond them
	idleAfter    = 30 * time.Second // a link that nobody needs is given up when it was not used for so long
	offerEvery   = 10 * time.Second
	hideFor      = 10 * time.Second // a member that could not be reached is not shown
	rejoinEvery  = time.Second      // at most, when nodes that were lost are back
	askEvery     = 5 * time.Second  // some peer for the nodes closest to this one
	refillEvery  = 30 * time.Second // a bucket that has too few links
	refillAfter  = 3 * time.Second  // this node has joined: buckets fill by themselves first
	refreshEvery = time.Minute      // a keeper is looked up again
)

// review decides which links this node needs, and looks after what it knows.
func (c *core) review() {
	changed := c.stale
	c.reviewed, c.stale = c.now, false
	for _, k := range c.table {
		k.wanted = false
		if k.peer != nil {
			k.peer.needed = false
		}
	}
	reach := c.wantClose()
	c.wantBuckets(reach)
	c.reviewGroups(changed)
	for _, k := range c.table {
		if k.wanted && k.peer == nil {
			c.dialSoon(k)
		}
	}
	c.releaseIdle()
	c.forgetContacts()
	for id, since := range c.down {
		if c.now.Sub(since) >= hideFor {
			c.show(id)
		}
	}
	c.lookAround()
	c.vetStrangers()
}

// require wants a link, and keeps the one there is.
func (k *contact) require() {
	k.wanted = true
	if k.peer != nil {
		k.peer.needed = true
	}
}

// wantClose wants links to the closest nodes. It returns how many bits the last of them
// has in common with this node: nodes that share fewer may be missing from them.
func (c *core) wantClose() int {
	n, reach := 0, 0
	for _, k := range c.table {
		if n == closePeers {
			break
		}
		switch {
		case k.usable():
			k.require()
			n++
			reach = prefix(c.self, k.id)
		case k.peer == nil && !k.stranger && c.now.Sub(k.seen) < freshFor:
			k.wanted = true // it may be that only this node could not reach it
		}
	}
	if n < closePeers {
		return 0
	}
	return reach
}

// wantBuckets wants some links of each bucket that shares fewer bits than reach.
func (c *core) wantBuckets(reach int) {
	for b := range reach {
		n := 0
		count := func(linked bool) {
			for _, k := range c.bucket(b) {
				if n < bucketPeers && k.usable() && (k.peer != nil) == linked {
					k.require()
					n++
				}
			}
		}
		count(true)
		count(false)
		if n < bucketPeers && c.now.Sub(c.refreshed[b]) >= refillEvery && c.now.Sub(c.joined) >= refillAfter {
			c.refill(b)
		}
	}
}

// needs tells whether this node needs the link to a peer.
func (c *core) needs(p *peer) bool {
	return p.needed || len(p.told)+len(p.tells)+len(p.keeps) > 0 || c.now.Sub(p.since) < offerEvery || c.now.Sub(p.used) < idleAfter
}

// releaseIdle offers to give up links that this node does not need.
func (c *core) releaseIdle() {
	for _, p := range c.peers {
		if c.needs(p) || p.left || c.now.Sub(p.offered) < offerEvery {
			continue
		}
		p.offered = c.now
		c.emit(offerLink{p.link})
	}
}

// lookAround asks some peer for the nodes closest to this one, so that no part of
// the network stays apart.
func (c *core) lookAround() {
	if c.now.Sub(c.asked) < askEvery || len(c.peers) == 0 {
		return
	}
	c.asked = c.now.Add(time.Duration(c.rng.Int64N(int64(askEvery))))
	c.send(c.peers[c.rng.IntN(len(c.peers))], find{0, c.self})
}
