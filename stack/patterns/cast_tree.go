package patterns

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A hop sends a message to one node, which sees to all members of an arc: it is the
// first of them or, where that one is lost, comes before them.
type hop struct {
	to link.ID
	arc
}

// A trace is the last message of a session that went to a group through a tree.
type trace struct {
	sequence uint64
	at       time.Duration
}

// plant begins a tree: c goes from a session to all nodes of g.
func (n *Node) plant(p *Port, g *group, c *cast) []hop {
	if p.traced == nil || len(p.traced) >= maxTraced {
		p.traced = make(map[*group]trace)
	}
	now := n.now()
	c.tree = true
	if last := p.traced[g]; now-last.at <= keepFor {
		c.previous = last.sequence
	}
	p.traced[g] = trace{c.sequence, now}
	hops := n.spread(g, round(n.self), nil)
	n.keep(g, c, hops)
	return hops
}

// spread yields how a message is handed on to the members of g in an arc, but for
// nodes that have failed. The nodes are cut into chunks; the first of each gets the
// message, and sees to the members from itself to the next chunk: it knows most of
// those that follow it closely. What lies between the beginning of the arc and the first
// node that is known there goes to the last one known before it, which knows more about it.
func (n *Node) spread(g *group, over arc, failed []link.ID) []hop {
	nodes := g.ring.within(over)
	if len(failed) > 0 {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(id link.ID) bool { return slices.Contains(failed, id) })
	}
	hops := make([]hop, 0, fanOut)
	lead := over
	if len(nodes) > 0 {
		lead.hi = before(nodes[0])
	}
	if (len(nodes) == 0 || nodes[0] != over.lo) && !g.ring.knows(lead) {
		if to, any := g.ring.precursor(over.lo, failed); any {
			hops = append(hops, hop{to, lead})
		} else {
			n.dropped.unsent.Add(1)
		}
	}
	for len(nodes) > 0 {
		h := hop{to: nodes[0], arc: arc{nodes[0], over.hi}}
		size := g.ring.chunk(nodes, over.hi, fanOut-len(hops))
		if size < len(nodes) {
			h.hi = before(nodes[size])
		}
		if size == 1 && g.ring.knows(h.arc) {
			h.hi = h.lo // nobody else is there
		}
		hops = append(hops, h)
		nodes = nodes[size:]
	}
	return hops
}

// chunk is how many of the nodes make the first of so many chunks with about as many
// members each. Where not all members are known, there are as many as the arc is long.
func (r *ring) chunk(nodes []link.ID, hi link.ID, chunks int) int {
	if chunks == 1 {
		return len(nodes)
	}
	most := len(nodes) - chunks + 1 // one for each of the other chunks
	if !r.partial {
		return max(1, min(most, len(nodes)/chunks))
	}
	size, limit := 1, distance(nodes[0], hi)/uint64(chunks)
	for size < most && distance(nodes[0], nodes[size]) < limit {
		size++
	}
	return size
}

// distance is about how far b lies behind a on the ring.
func distance(a, b link.ID) uint64 {
	d := minus(b, a)
	return binary.BigEndian.Uint64(d[:])
}

// sendAlong sends c on its hops. Where a node cannot take it, others get what it
// was to see to; not those that have failed before.
func (n *Node) sendAlong(t *link.Turn, c *cast, hops []hop, mayWait bool, failed ...link.ID) {
	if len(hops) == 0 {
		return
	}
	head := n.heads.Get().(*[]byte)
	defer n.heads.Put(head)
	next := *c
	next.tree = true
	planned := len(hops)
	for i := 0; i < len(hops); i++ {
		h := hops[i]
		next.arc = h.arc
		*head = appendCast((*head)[:0], &next)
		if n.sendCast(t, h.to, &next, *head, mayWait && i < planned) == nil {
			continue
		}
		n.dropped.unsent.Add(1)
		if !h.only(h.to) {
			failed = append(failed, h.to)
			hops = append(hops, n.around(c, h, failed)...)
		}
	}
}

// around yields how c reaches the others of an arc whose delegate failed.
func (n *Node) around(c *cast, h hop, failed []link.ID) []hop {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.find(c); g != nil {
		return n.spread(g, h.arc, failed)
	}
	return nil
}
