package patterns

import (
	"bytes"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	keepFor      = 1500 * time.Millisecond // that a message is kept for when its delegate is lost
	maxKept      = 256                     // messages of a group that are kept
	maxKeptBytes = 1 << 20                 // of a group
	maxKeptTotal = 64 << 20                // of all groups
)

// A hop sends a message to one node, which sees to the others from lo to hi.
type hop struct{ to, lo, hi link.ID }

// leaf is whether the message goes no further.
func (h hop) leaf() bool { return h.lo == h.hi }

// A delegated message is kept for a while, in case a delegate is lost, or until
// the view is in that tells where it goes.
type delegated struct {
	cast
	hops []hop // that are not leaves
	at   time.Duration
}

func (d *delegated) size() int { return d.cast.size() + len(d.hops)*len(link.ID{})*3 }

// A trace is the last message of a session that went to a group through a tree.
type trace struct {
	sequence uint64
	at       time.Duration
}

var lastID = link.ID(bytes.Repeat([]byte{0xff}, len(link.ID{})))

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
	hops := g.spread(link.ID{}, lastID, c.origin, c.origin)
	n.keep(g, c, hops)
	return hops
}

// spread yields how a message is handed on to the members from lo to hi, but not to
// the two that have it: directly up to fanOut nodes, beyond that to one node of each of as many
// intervals of about the same number of nodes.
func (g *group) spread(lo, hi, origin, from link.ID) []hop {
	nodes := g.within(lo, hi)
	skip := func(id link.ID) bool { return id == origin || id == from }
	chunks := min(len(nodes), fanOut)
	hops := make([]hop, 0, chunks)
	for i := range chunks {
		chunk := nodes[i*len(nodes)/chunks : (i+1)*len(nodes)/chunks]
		h := hop{lo: chunk[0], hi: hi}
		if i == 0 {
			h.lo = lo
		}
		if i+1 < chunks {
			h.hi = before(nodes[(i+1)*len(nodes)/chunks])
		}
		at := slices.IndexFunc(chunk, func(id link.ID) bool { return !skip(id) })
		if at < 0 {
			continue
		}
		if start := int(g.salt % uint64(len(chunk))); !skip(chunk[start]) {
			at = start // the same while the view is: messages that take the same way stay in order
		}
		h.to = chunk[at]
		if len(nodes) <= fanOut {
			h.lo, h.hi = h.to, h.to
		}
		hops = append(hops, h)
	}
	return hops
}

// within yields the nodes of the group from lo to hi.
func (g *group) within(lo, hi link.ID) []link.ID {
	first, _ := slices.BinarySearchFunc(g.nodes, lo, link.ID.Compare)
	end, found := slices.BinarySearchFunc(g.nodes, hi, link.ID.Compare)
	if found {
		end++
	}
	return g.nodes[first:max(first, end)]
}

// before is the id below id, which is not zero.
func before(id link.ID) link.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// sendAlong sends c on its hops. Where a node cannot take it, others of its
// interval get it.
func (n *Node) sendAlong(t *link.Turn, c *cast, hops []hop, mayWait bool) {
	if len(hops) == 0 {
		return
	}
	head := n.heads.Get().(*[]byte)
	defer n.heads.Put(head)
	next := *c
	next.tree = true
	for _, h := range hops {
		next.lo, next.hi = h.lo, h.hi
		*head = appendCast((*head)[:0], &next)
		if n.sendCast(t, h.to, &next, *head, mayWait) == nil {
			continue
		}
		n.dropped.unsent.Add(1)
		if !h.leaf() {
			n.sendAlong(t, c, n.around(c, h), false)
		}
	}
}

// around yields how c reaches the others of an interval whose delegate failed.
func (n *Node) around(c *cast, h hop) []hop {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.find(c); g != nil {
		return g.spread(h.lo, h.hi, c.origin, h.to)
	}
	return nil
}

// keep remembers what was delegated, until keepFor has passed. The oldest goes
// where there is too much.
func (n *Node) keep(g *group, c *cast, hops []hop) {
	d := &delegated{cast: *c, at: n.now()}
	for _, h := range hops {
		if !h.leaf() {
			d.hops = append(d.hops, h)
		}
	}
	if len(d.hops) == 0 || d.size() > maxKeptBytes {
		return
	}
	d.Message = cloneMessage(c.Message)
	g.kept = n.stash(g, g.kept, d)
}

// stash appends d to one of the two lists of g that are bounded together, and
// has Run look after it.
func (n *Node) stash(g *group, list []*delegated, d *delegated) []*delegated {
	if len(g.kept)+len(g.unspread) == 0 {
		n.keepers[g] = struct{}{}
		n.kick()
	}
	list = append(list, d)
	g.keptBytes += d.size()
	n.keptBytes += d.size()
	for len(list) > maxKept || len(list) > 0 && (g.keptBytes > maxKeptBytes || n.keptBytes > maxKeptTotal) {
		n.unkeep(g, list[0])
		list[0] = nil
		list = list[1:]
	}
	return list
}

func (n *Node) unkeep(g *group, d *delegated) {
	g.keptBytes -= d.size()
	n.keptBytes -= d.size()
}

// expireKept lets go of what was kept long enough, and returns when to look again.
func (n *Node) expireKept(now time.Duration) time.Duration {
	until := time.Duration(never)
	for g := range n.keepers {
		g.kept = n.expireList(g, g.kept, now-keepFor)
		waited := len(g.unspread)
		g.unspread = n.expireList(g, g.unspread, now-viewWait)
		n.dropped.unsent.Add(uint64(waited - len(g.unspread)))
		if len(g.kept) > 0 {
			until = min(until, g.kept[0].at+keepFor)
		}
		if len(g.unspread) > 0 {
			until = min(until, g.unspread[0].at+viewWait)
		}
		if len(g.kept)+len(g.unspread) == 0 {
			delete(n.keepers, g)
		}
	}
	return until
}

func (n *Node) expireList(g *group, list []*delegated, before time.Duration) []*delegated {
	for len(list) > 0 && list[0].at <= before {
		n.unkeep(g, list[0])
		list[0] = nil
		list = list[1:]
	}
	return list
}

// A detour hands on a message that was delegated to a node which is gone, or
// that had to wait for a view.
type detour struct {
	cast *cast
	hops []hop
}

// detours takes a lost node out of all groups and yields what was delegated to it.
func (n *Node) detours(lost link.ID) []detour {
	for _, g := range n.keys {
		if i, found := slices.BinarySearchFunc(g.nodes, lost, link.ID.Compare); found {
			g.nodes = slices.Concat(g.nodes[:i], g.nodes[i+1:])
		}
	}
	var all []detour
	for g := range n.keepers {
		for _, d := range g.kept {
			i := slices.IndexFunc(d.hops, func(h hop) bool { return h.to == lost })
			if i < 0 {
				continue
			}
			h, sizeBefore := d.hops[i], d.size()
			hops := g.spread(h.lo, h.hi, d.origin, lost)
			d.hops = slices.Delete(d.hops, i, i+1)
			for _, h := range hops {
				if !h.leaf() {
					d.hops = append(d.hops, h)
				}
			}
			g.keptBytes += d.size() - sizeBefore
			n.keptBytes += d.size() - sizeBefore
			all = append(all, detour{&d.cast, hops})
		}
	}
	return all
}

// unwait yields what waited for the view of g.
func (n *Node) unwait(g *group) []detour {
	var all []detour
	for _, d := range g.unspread {
		n.unkeep(g, d)
		hops := g.spread(d.lo, d.hi, d.origin, d.origin)
		all = append(all, detour{&d.cast, hops})
	}
	g.unspread = nil
	for _, d := range all {
		n.keep(g, d.cast, d.hops)
	}
	return all
}

func (n *Node) take(t *link.Turn, detours []detour) {
	for _, d := range detours {
		n.sendAlong(t, d.cast, d.hops, false)
	}
}

func cloneMessage(m Message) Message {
	return Message{Name: bytes.Clone(m.Name), Headers: bytes.Clone(m.Headers), Payload: bytes.Clone(m.Payload)}
}
