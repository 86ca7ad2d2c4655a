package patterns

import (
	"bytes"
	"container/list"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

const (
	maxParked      = 4096     // requests of a group that wait for its first view
	maxParkedBytes = 64 << 20 // of all groups
	maxWatched     = 65536    // groups; beyond, the one that was longest unused goes
	idleAfter      = 5 * time.Minute
)

// A group is a cluster or a topic as this node knows it: it hosts members of it,
// or has sent to it. Guarded by the node's mutex.
type group struct {
	kind     overlay.Kind
	name     string
	key      overlay.Key
	locals   pool
	remotes  pool // of a cluster
	inflight int  // entries that refer to it

	watched *list.Element // in the node's list, last used first; nil: not watched
	used    time.Duration // about when it was sent to
	viewed  bool          // the first view is in
	awaited chan struct{} // closed when it is; nil: nobody waits
	parked  struct {      // requests that wait for it
		chain
		n int
	}
	waiting []*opening // tunnels that wait for it

	// For messages to all.
	here      []*party     // the sessions that are members; replaced, never changed, so that it can be used without the lock
	ring      ring         // the other nodes that host members
	kept      []*delegated // oldest first
	unspread  []*delegated // that wait for the first view, oldest first
	keptBytes int          // of both
	heard     *heard       // the flow that was heard last; nil: none
	joined    uint64       // changes whenever the first session joins
	joinedAt  time.Duration
	confirmed bool // since then, every peer has learnt of it

	// What the overlay was told, and who waits for it to be confirmed.
	changed     bool // is on the node's list of changed groups
	lapsed      bool // was not watched in between
	toldCount   int
	toldWatch   bool
	toldWaiters []chan struct{}
}

// open yields the cluster of a name, new if need be.
func (n *Node) open(name []byte) *group {
	if g := n.groups[string(name)]; g != nil {
		return g
	}
	return n.add(n.groups, overlay.KindCluster, string(name))
}

// openTopic does so for a topic.
func (n *Node) openTopic(name []byte) *group {
	if g := n.topics[string(name)]; g != nil {
		return g
	}
	return n.add(n.topics, overlay.KindTopic, string(name))
}

func (n *Node) add(to map[string]*group, kind overlay.Kind, name string) *group {
	g := &group{kind: kind, name: name, key: overlay.KeyOf(kind, []byte(name))}
	to[name], n.keys[g.key] = g, g
	return g
}

// wanted is whether views of g are: it is sent to, or a member may have to hand on
// what others send.
func (g *group) wanted() bool { return g.watched != nil || len(g.here) > 0 }

// join makes a session a member of g.
func (n *Node) join(g *group, at *party) {
	if len(g.here) == 0 {
		n.joins++
		g.joined, g.joinedAt, g.confirmed = n.joins, n.now(), false
	}
	g.here = append(slices.Clip(g.here), at)
}

// part ends that.
func (n *Node) part(g *group, at *party) {
	if i := slices.Index(g.here, at); i >= 0 {
		g.here = slices.Concat(g.here[:i], g.here[i+1:])
	}
	n.lapse(g)
}

// lapse forgets the view of g if it is no longer wanted.
func (n *Node) lapse(g *group) {
	if len(g.here) == 0 {
		g.confirmed = false
	}
	if !g.wanted() {
		g.viewed, g.lapsed = false, true
		n.setRemotes(g, nil, true)
	}
}

// use notes that g is sent to. It returns false if g cannot be watched because
// too many other groups are, all of them with requests in flight.
func (n *Node) use(g *group, now time.Duration) bool {
	const precision = time.Second
	switch {
	case g.watched == nil:
		if n.watched.Len() >= n.maxWatched && !n.forgetOne() {
			n.drop(g)
			return false
		}
		g.watched = n.watched.PushFront(g)
		g.used = now
		n.change(g)
	case now-g.used > precision:
		g.used = now
		n.watched.MoveToFront(g.watched)
	}
	return true
}

// forgetOne makes room for another watched group.
func (n *Node) forgetOne() bool {
	const effort = 16
	for e, i := n.watched.Back(), 0; e != nil && i < effort; e, i = e.Prev(), i+1 {
		if g := e.Value.(*group); g.inflight == 0 {
			n.forget(g)
			return true
		}
	}
	return false
}

// forgetIdle forgets the groups that were not used for long, and returns when
// to look again (never if no group is watched).
func (n *Node) forgetIdle(now time.Duration) time.Duration {
	for e := n.watched.Back(); e != nil; e = n.watched.Back() {
		g := e.Value.(*group)
		switch {
		case now-g.used < idleAfter:
			return g.used + idleAfter
		case g.inflight > 0:
			g.used = now
			n.watched.MoveToFront(e)
		default:
			n.forget(g)
		}
	}
	return never
}

// forget ends watching g, to which nothing is in flight.
func (n *Node) forget(g *group) {
	n.watched.Remove(g.watched)
	g.watched = nil
	n.lapse(g)
	n.change(g)
	n.drop(g)
}

// drop lets go of g if nothing is known of it.
func (n *Node) drop(g *group) {
	if g.wanted() || g.inflight > 0 {
		return
	}
	if g.kind == overlay.KindTopic {
		delete(n.topics, g.name)
	} else {
		delete(n.groups, g.name)
	}
	delete(n.keys, g.key)
}

// setRemotes takes over a view, of all members if whole, keeping what is known of members that stay.
// Requests in flight to one that goes are not touched: it may be draining.
func (n *Node) setRemotes(g *group, view []overlay.Member, whole bool) {
	nodes := make([]link.ID, 0, len(view))
	for _, v := range view {
		if v.Count > 0 && v.Node != n.self {
			nodes = append(nodes, v.Node)
		}
	}
	g.ring = ringOf(n.self, nodes, !whole)
	if g.kind == overlay.KindTopic {
		return
	}
	old := make(map[link.ID]*member, len(g.remotes.members))
	for _, m := range g.remotes.members {
		old[m.at.node] = m
	}
	g.remotes.members = nil
	for _, v := range view {
		if v.Count <= 0 || v.Node == n.self {
			continue
		}
		m := old[v.Node]
		if m == nil {
			m = &member{group: g, at: n.peer(v.Node), pass: g.remotes.clock}
			m.at.members++
		}
		delete(old, v.Node)
		m.count = v.Count
		g.remotes.members = append(g.remotes.members, m)
	}
	for _, m := range old {
		m.at.members--
	}
	g.remotes.weigh()
}

// park keeps r until the first view of its group is in. It returns false if too
// much is parked already.
func (n *Node) park(e *entry, r Request) bool {
	g := e.group
	b := &body{headers: r.Headers, payload: r.Payload}
	if g.parked.n >= maxParked || n.parkedBytes+b.size() > maxParkedBytes {
		return false
	}
	e.parked = &body{cluster: []byte(g.name), headers: bytes.Clone(r.Headers), payload: bytes.Clone(r.Payload)}
	n.parkedBytes += b.size()
	g.parked.push(hookPlace, e)
	g.parked.n++
	return true
}

// unpark takes e out of parking and yields its request.
func (n *Node) unpark(e *entry) Request {
	b := e.parked
	e.parked = nil
	n.parkedBytes -= b.size()
	e.group.parked.remove(hookPlace, e)
	e.group.parked.n--
	return Request{Cluster: b.cluster, Headers: b.headers, Payload: b.payload}
}
