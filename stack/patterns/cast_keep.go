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

// A delegated message is kept for a while, in case a delegate is lost, or until
// the view is in that tells where it goes.
type delegated struct {
	cast
	hops   []hop     // on which it goes further than to one node
	failed []link.ID // that it cannot go through
	at     time.Duration
}

func (d *delegated) size() int { return d.cast.size() + len(link.ID{})*(3*len(d.hops)+len(d.failed)) }

// add notes hops, but for those that end with one node.
func (d *delegated) add(hops []hop) {
	for _, h := range hops {
		if !h.only(h.to) {
			d.hops = append(d.hops, h)
		}
	}
}

// keep remembers what was delegated, until keepFor has passed. The oldest goes
// where there is too much.
func (n *Node) keep(g *group, c *cast, hops []hop) {
	d := &delegated{cast: *c, at: n.now()}
	d.add(hops)
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
	cast   *cast
	hops   []hop
	failed []link.ID
}

// detours yields what was delegated to a lost node. The node stays in the groups until
// views without it come: only the link may have ended.
func (n *Node) detours(lost link.ID) []detour {
	var all []detour
	for g := range n.keepers {
		for _, d := range g.kept {
			for _, h := range slices.Clone(d.hops) {
				if h.to == lost {
					all = append(all, n.redirect(g, d, h))
				}
			}
		}
	}
	return all
}

// redirect finds another way for what d has delegated on h.
func (n *Node) redirect(g *group, d *delegated, h hop) detour {
	sizeBefore := d.size()
	d.failed = append(d.failed, h.to)
	d.hops = slices.DeleteFunc(d.hops, func(other hop) bool { return other == h })
	hops := n.spread(g, h.arc, d.failed)
	d.add(hops)
	g.keptBytes += d.size() - sizeBefore
	n.keptBytes += d.size() - sizeBefore
	return detour{&d.cast, hops, slices.Clip(d.failed)}
}

// redirectReturned does so for a message that could not be sent. If it is not kept, what has failed
// before is not known, and that it was sent once more has to end it some time.
func (n *Node) redirectReturned(g *group, c *cast, h hop) detour {
	for _, d := range g.kept {
		if d.origin == c.origin && d.flow == c.flow && d.sequence == c.sequence && slices.Contains(d.hops, h) {
			return n.redirect(g, d, h)
		}
	}
	if c.hops--; c.hops == 0 {
		return detour{cast: c}
	}
	failed := []link.ID{h.to}
	hops := n.spread(g, h.arc, failed)
	n.keep(g, c, hops)
	return detour{c, hops, failed}
}

// unwait yields what waited for the view of g.
func (n *Node) unwait(g *group) []detour {
	var all []detour
	for _, d := range g.unspread {
		n.unkeep(g, d)
		all = append(all, detour{cast: &d.cast, hops: n.spread(g, d.arc, nil)})
	}
	g.unspread = nil
	for _, d := range all {
		n.keep(g, d.cast, d.hops)
	}
	return all
}

func (n *Node) take(t *link.Turn, detours []detour) {
	for _, d := range detours {
		n.sendAlong(t, d.cast, d.hops, false, d.failed...)
	}
}

func cloneMessage(m Message) Message {
	return Message{Name: bytes.Clone(m.Name), Headers: bytes.Clone(m.Headers), Payload: bytes.Clone(m.Payload)}
}
