package overlay

import (
	"fmt"
	"slices"
	"time"
)

// Failure detection. A peer of which no packet came for an interval is pinged, and again
// twice within answerLimit; when that has passed without a sign of life the peer
// is gone. Where links matter that is at most 250 + 550 ms and two ticks after it
// died. One that stalls for 400 ms is not accused. Where much is lost on the way, lossyLimit
// takes the place of answerLimit. Where packets come but no control message
// does, as when the path lets only small packets pass, the link is of no use either: it is
// given up when a ping was not answered for stuckLimit.
const (
	tickEvery   = 50 * time.Millisecond
	pingSoon    = 250 * time.Millisecond // of a peer that matters, or where there are few
	pingLate    = 4 * time.Second        // of others
	answerLimit = 550 * time.Millisecond
	lossyLimit  = 2 * time.Second
	talkEvery   = 2 * time.Second // a control message is asked for, where packets come but none of these
	stuckLimit  = 8 * time.Second
	fewPeers    = 16                     // all of them matter
	usedLately  = 5 * time.Second        // a link with traffic matters for so long
	stallLimit  = 150 * time.Millisecond // a tick that is later says that this node itself stalled
)

// pingAgain is when a peer that does not answer is pinged again. The last time is behind a
// stall of 400 ms, in which packets may be lost: what is sent anew then does not wait for its turn.
func (p *peer) pingAgain() time.Duration {
	if p.repinged == 1 {
		return answerLimit * 13 / 16
	}
	return time.Duration(p.repinged+1) * answerLimit / 2
}

// silenceLimit is how long a pinged peer may be silent.
func (p *peer) silenceLimit() time.Duration {
	if p.lossy {
		return lossyLimit
	}
	return answerLimit
}

// tick: time passes. Due every tickEvery.
type tick struct{}

func (tick) apply(c *core) {
	c.forgiveStall()
	for n := len(c.agenda); n > 0 && !c.now.Before(c.agenda[n-1].at); n = len(c.agenda) {
		d := c.agenda[n-1]
		c.agenda = c.agenda[:n-1]
		if d.p.watchAt.Equal(d.at) && c.links[d.p.link] == d.p {
			c.watchOver(d.p)
		}
	}
	c.expireQueries()
	c.hurryLookups()
	c.expireRecords()
	c.releaseLate()
	if c.stale || c.now.Sub(c.reviewed) >= reviewEvery {
		c.review()
	}
}

// A due peer is to be looked at, unless it is due at another time by then.
type due struct {
	at time.Time
	p  *peer
}

// watchAt has a peer looked at when it is due.
func (c *core) watchAt(p *peer, at time.Time) {
	p.watchAt = at
	i, _ := slices.BinarySearchFunc(c.agenda, at, func(d due, at time.Time) int { return at.Compare(d.at) })
	c.agenda = slices.Insert(c.agenda, i, due{at, p})
}

// watchSoon has a peer looked at when it is due, or before.
func (c *core) watchSoon(p *peer, at time.Time) {
	if at.Before(p.watchAt) {
		c.watchAt(p, at)
	}
}

// watchOver pings a peer, or gives it up. It sees to it that it is called again in time.
func (c *core) watchOver(p *peer) {
	every := c.pingEvery(p)
	silent := p.heard.Add(every - tickEvery/2) // to the nearest tick
	talk := p.spoke.Add(max(every, talkEvery))
	switch {
	case !p.asked.IsZero() && c.now.Sub(p.asked) >= stuckLimit, !p.pinged.IsZero() && c.now.Sub(p.pinged) >= p.silenceLimit():
		c.emit(closeLink{p.link, closeSilent})
		c.drop(p, true)
		return
	case p.pinged.IsZero() && !c.now.Before(silent):
		p.pinged, p.repinged = c.now, 0
		c.ping(p)
	case p.pinged.IsZero() && p.asked.IsZero() && !c.now.Before(talk):
		c.ping(p)
	case !p.pinged.IsZero() && c.now.Sub(p.pinged) >= p.pingAgain():
		p.repinged++
		c.ping(p)
	}
	next := silent
	if !p.pinged.IsZero() {
		next = p.pinged.Add(min(p.pingAgain(), p.silenceLimit()))
	}
	if !p.asked.IsZero() {
		talk = p.asked.Add(stuckLimit)
	}
	c.watchAt(p, earliest(next, talk, c.now.Add(pingLate)))
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

func (c *core) ping(p *peer) {
	if p.asked.IsZero() {
		p.asked = c.now
	}
	p.sequence++
	c.send(p, ping{p.sequence})
}

// pingEvery is how long a peer may be silent before it is pinged.
func (c *core) pingEvery(p *peer) time.Duration {
	if len(c.peers) <= fewPeers || len(p.told)+len(p.tells)+len(p.hosts) > 0 || c.now.Sub(p.used) < usedLately {
		return pingSoon
	}
	return pingLate
}

// suspect pings a peer that was not heard for a while, or that others say is gone.
func (c *core) suspect(p *peer) {
	if p.pinged.IsZero() {
		p.pinged, p.repinged = c.now, 0
		c.ping(p)
		c.watchSoon(p, c.now.Add(p.pingAgain()))
	}
}

// forgiveStall keeps a node that stalled from holding its own silence against
// others (Lifeguard): they get the time that it was late.
func (c *core) forgiveStall() {
	late := c.now.Sub(c.ticked) - tickEvery
	c.ticked = c.now
	if late <= stallLimit {
		return
	}
	for _, p := range c.peers {
		if !p.pinged.IsZero() {
			p.pinged = c.now
		}
		if !p.asked.IsZero() {
			p.asked = c.now
		}
	}
}

// hear notes a sign of life: a packet.
func (c *core) hear(p *peer) {
	if !p.pinged.IsZero() { // it was to be looked at when its answer is due, which may be later than the next ping
		c.watchSoon(p, c.now.Add(pingSoon-tickEvery/2))
	}
	p.heard, p.pinged = c.now, time.Time{}
	p.contact.seen = c.now
}

// receive answers.
func (m ping) receive(c *core, p *peer) error {
	c.send(p, pong(m))
	return nil
}

// receive is a sign of life, which control has noted; what is left is to check
// that the peer follows the protocol.
func (m pong) receive(_ *core, p *peer) error {
	if m.sequence == 0 || m.sequence > p.sequence {
		return fmt.Errorf("%w: pong %d of %d", errMalformed, m.sequence, p.sequence)
	}
	return nil
}

// alive: packets came on a link; used: messages of the layers above did, or went; lossy: much is
// lost on the way.
type alive struct {
	link  uint64
	used  bool
	lossy bool
}

func (e alive) apply(c *core) {
	if p := c.links[e.link]; p != nil {
		p.lossy = e.lossy
		c.hear(p)
		if e.used {
			c.use(p)
		}
	}
}

// used: a link is in use, and was about to be given up.
type used struct{ link uint64 }

func (e used) apply(c *core) {
	if p := c.links[e.link]; p != nil {
		c.use(p)
		p.offered = time.Time{}
	}
}

// use notes that a link is in use, so that the peer matters.
func (c *core) use(p *peer) {
	p.used = c.now
	c.watchSoon(p, p.heard.Add(pingSoon))
}
