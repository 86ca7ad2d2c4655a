package patterns

import (
	"github.com/project-iris/iris/stack/link"
)

// receiveCast gives a message to the members of this node and hands it on to
// those of its interval. Handing on does not depend on whether it came before: it
// may come again to make up for a node that was lost.
func (n *Node) receiveCast(t *link.Turn, from link.ID, msg []byte) error {
	c, err := parseCast(msg)
	if err != nil {
		return err
	}
	if !c.tree {
		c.origin = from
	}
	if c.tree && c.lo != n.self && c.has(n.self) {
		return errMalformed // nobody puts a node there
	}
	if c.origin == n.self {
		n.dropped.copies.Add(1)
		return nil
	}
	n.mu.Lock()
	var hops []hop
	if c.tree && !c.only(n.self) {
		hops = n.forward(&c)
	}
	var h *heard
	var here []*party
	if g := n.find(&c); g != nil && len(g.here) > 0 {
		h, here = n.hear(g, &c, n.during(t)), g.here
	}
	n.mu.Unlock()
	if h != nil {
		n.deliverHeard(t, h, &c, here)
	}
	n.sendAlong(t, &c, hops, false)
	return nil
}

// forward yields where c goes from here. Without a view it waits for one.
func (n *Node) forward(c *cast) []hop {
	c.hops--
	if c.hops == 0 {
		n.dropped.unsent.Add(1)
		return nil
	}
	g := n.openFor(c.kind, c.Name)
	if !n.use(g, n.now()) && !g.wanted() {
		n.dropped.unsent.Add(1)
		return nil
	}
	if !g.viewed {
		d := &delegated{cast: *c, at: n.now()}
		d.Message = cloneMessage(c.Message)
		waiting := len(g.unspread) + 1
		g.unspread = n.stash(g, g.unspread, d)
		n.dropped.unsent.Add(uint64(waiting - len(g.unspread)))
		return nil
	}
	hops := n.spread(g, c.arc, nil)
	n.keep(g, c, hops)
	return hops
}

// find yields the group that c goes to, or nil if this node knows none.
func (n *Node) find(c *cast) *group {
	if c.kind == kindEvent {
		return n.topics[string(c.Name)]
	}
	return n.groups[string(c.Name)]
}
