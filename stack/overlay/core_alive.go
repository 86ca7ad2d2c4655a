package overlay

import (
	"fmt"
	"slices"
	"time"
)

// Failure detection. A peer is heard at most once per tick through its
// messages, and its silence is looked at once per tick, so that a dead one is noticed
// after silenceLimit and two ticks: 900 ms. One that stalls for 400 ms right before
// its heartbeat was due is silent for 650 ms.
const (
	tickEvery      = 50 * time.Millisecond
	heartbeatEvery = 250 * time.Millisecond
	silenceLimit   = 800 * time.Millisecond
	stallLimit     = 150 * time.Millisecond // a tick that is later says that this node itself stalled
)

// tick: time passes. Due every tickEvery.
type tick struct{}

func (tick) apply(c *core) {
	c.forgiveStall()
	for _, p := range c.peers {
		c.beat(p)
	}
	for _, p := range slices.Clone(c.peers) {
		if c.now.Sub(p.heard) >= silenceLimit {
			c.emit(closeLink{p.link, closeSilent})
			c.drop(p)
			c.redial(p)
		}
	}
	c.giveUpCandidates()
}

// forgiveStall keeps a node that stalled from holding its own silence against
// others (Lifeguard): they get the time that it was late and one heartbeat, but
// no more than as if they had been heard just now.
func (c *core) forgiveStall() {
	late := c.now.Sub(c.ticked) - tickEvery
	c.ticked = c.now
	if late <= stallLimit {
		return
	}
	for _, p := range c.peers {
		if p.heard = p.heard.Add(late + heartbeatEvery); p.heard.After(c.now) {
			p.heard = c.now
		}
	}
}

// beat sends a heartbeat when it is due, to the nearest tick.
func (c *core) beat(p *peer) {
	if c.now.Sub(p.beaten) < heartbeatEvery-tickEvery/2 {
		return
	}
	p.beaten = c.now
	p.sequence++
	c.send(p, heartbeat{p.sequence, p.echo})
}

// receive is a sign of life, which control has noted; what is left is to check
// that the peer follows the protocol.
func (m heartbeat) receive(c *core, p *peer) error {
	if m.sequence <= p.echo || m.echo > p.sequence {
		return fmt.Errorf("%w: heartbeat %d echoes %d of %d", errMalformed, m.sequence, m.echo, p.sequence)
	}
	p.echo = m.sequence
	return nil
}

// alive: packets came on a link.
type alive struct{ link uint64 }

func (e alive) apply(c *core) {
	if p := c.onLink(e.link); p != nil {
		p.heard = c.now
	}
}
