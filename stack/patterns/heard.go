package patterns

import (
	"container/list"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

const (
	maxHeard     = 65536                  // flows; beyond, the one that was longest silent goes
	maxHeld      = 256                    // messages of a flow that wait for one that is missing
	maxHeldBytes = 1 << 20                // of a flow
	maxHeldTotal = 64 << 20               // of all flows
	holdFor      = keepFor                // after that the missing one is given up
	holdNewFor   = 100 * time.Millisecond // likewise, for a new member: what is missing may be from before
)

// A flowKey names what one session of the network sends to one group.
type flowKey struct {
	origin link.ID
	flow   uint32
	group  overlay.Key
}

// heard is how far this node has come with a flow: each message is delivered once
// and in order. Way and time of messages to large groups differ when members change
// or a node is lost; then what overtakes another is held back for a while.
type heard struct {
	key       flowKey
	group     *group
	place     *list.Element // in flows.order
	last      uint64        // sequence that was delivered
	used      time.Duration
	busy      bool    // somebody delivers; held is looked at then
	held      []*cast // by sequence
	heldBytes int
	until     time.Duration // when the missing ones are given up
}

// flows is what was heard. Guarded by the node's mutex.
type flows struct {
	byKey     map[flowKey]*list.Element
	order     *list.List // of *heard, last heard first
	holding   map[*heard]struct{}
	heldBytes int
}

func newFlows() flows {
	return flows{byKey: make(map[flowKey]*list.Element), order: list.New(), holding: make(map[*heard]struct{})}
}

// of yields the flow of a message to g, new if need be. That which was heard last
// is at hand: finding the others costs more than the rest of what a message needs.
func (f *flows) of(g *group, origin link.ID, flow uint32, now time.Duration) *heard {
	if h := g.heard; h != nil && h.key.flow == flow && h.key.origin == origin {
		return f.touch(h, g, now)
	}
	key := flowKey{origin, flow, g.key}
	if e := f.byKey[key]; e != nil {
		return f.touch(e.Value.(*heard), g, now)
	}
	for e := f.order.Back(); e != nil; e = f.order.Back() {
		h := e.Value.(*heard)
		if f.order.Len() < maxHeard && now-h.used < idleAfter {
			break
		}
		f.order.Remove(e)
		delete(f.byKey, h.key)
		if h.group.heard == h {
			h.group.heard = nil
		}
	}
	h := &heard{key: key}
	h.place = f.order.PushFront(h)
	f.byKey[key] = h.place
	return f.touch(h, g, now)
}

// touch notes that h is in use.
func (f *flows) touch(h *heard, g *group, now time.Duration) *heard {
	f.order.MoveToFront(h.place)
	h.used, h.group, g.heard = now, g, h
	return h
}

// hear takes note of c. If it is c's turn to be delivered, the result is its flow,
// and the caller delivers; if not, the result is nil: c has come before, or waits.
func (n *Node) hear(g *group, c *cast, now time.Duration) *heard {
	h := n.flows.of(g, c.origin, c.flow, now)
	if c.sequence <= h.last {
		n.dropped.copies.Add(1)
		return nil
	}
	if h.busy || c.previous > h.last {
		n.hold(h, c, now)
		if h.busy || !n.full(h) {
			return nil
		}
		*c = *n.release(h, now) // the missing ones are given up; c itself is among those held
	}
	h.busy, h.last = true, c.sequence
	return h
}

// full is whether nothing more may wait with h.
func (n *Node) full(h *heard) bool {
	return len(h.held) > maxHeld || h.heldBytes > maxHeldBytes || n.flows.heldBytes > maxHeldTotal
}

// hold keeps a copy of c for later. Where there are too many, c is dropped; that
// can only be while another goroutine delivers.
func (n *Node) hold(h *heard, c *cast, now time.Duration) {
	i, found := slices.BinarySearchFunc(h.held, c.sequence, func(d *cast, sequence uint64) int {
		switch {
		case d.sequence < sequence:
			return -1
		case d.sequence > sequence:
			return 1
		}
		return 0
	})
	if found {
		n.dropped.copies.Add(1)
		return
	}
	if h.busy && n.full(h) {
		n.countMissed(c)
		return
	}
	if len(h.held) == 0 {
		h.until = now + holdFor
		if now-h.group.joinedAt < holdFor {
			h.until = now + holdNewFor
		}
		n.flows.holding[h] = struct{}{}
		n.kick()
	}
	d := *c
	d.Message = cloneMessage(c.Message)
	h.held = slices.Insert(h.held, i, &d)
	h.heldBytes += d.size()
	n.flows.heldBytes += d.size()
}

func (n *Node) countMissed(c *cast) {
	if c.kind == kindEvent {
		n.dropped.events.Add(1)
	} else {
		n.dropped.broadcasts.Add(1)
	}
}

// release yields the next message of h that need not wait, or nil.
func (n *Node) release(h *heard, now time.Duration) *cast {
	for len(h.held) > 0 {
		c := h.held[0]
		if c.previous > h.last && now < h.until && !n.full(h) {
			return nil
		}
		h.held[0] = nil
		h.held = h.held[1:]
		h.heldBytes -= c.size()
		n.flows.heldBytes -= c.size()
		if len(h.held) == 0 {
			h.held = nil
			delete(n.flows.holding, h)
		}
		if c.sequence > h.last {
			return c
		}
	}
	return nil
}

// deliverHeard gives c to sessions of this node, and then what waited for it.
func (n *Node) deliverHeard(t *link.Turn, h *heard, c *cast, here []*party) {
	for {
		n.give(t, here, c)
		n.mu.Lock()
		var next *cast
		if len(h.held) > 0 {
			next = n.release(h, n.now())
		}
		if next == nil {
			h.busy = false
			n.mu.Unlock()
			return
		}
		h.last = next.sequence
		c, here = next, h.group.here
		n.mu.Unlock()
	}
}

// giveUpMissing delivers what has waited long enough, and returns when to look again.
func (n *Node) giveUpMissing(t *link.Turn) time.Duration {
	until := time.Duration(never)
	n.mu.Lock()
	now := n.now()
	var due []*heard
	for h := range n.flows.holding {
		switch {
		case h.busy:
		case h.until > now:
			until = min(until, h.until)
		default:
			h.busy = true
			due = append(due, h)
		}
	}
	n.mu.Unlock()
	for _, h := range due {
		n.deliverHeard(t, h, &cast{}, nil)
	}
	return until
}
