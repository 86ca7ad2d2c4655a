package patterns

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	fanOut    = 16          // copies of a message that one node sends
	roomWait  = time.Second // that a sender waits for room on a link
	viewWait  = time.Second // that a sender waits for the first view of a group
	maxTraced = 1024        // groups for which a port remembers its last message in a tree
)

// A Message is a broadcast to the members of a cluster, or an event for the
// subscribers of a topic.
type Message struct {
	Name    []byte // of the cluster or topic
	Headers []byte // encoded as they came, opaque
	Payload []byte
}

// Broadcast sends m to every member of the cluster, the session's own service
// included. CodeNoService: there is none. Members without credit, and nodes
// without room, miss it. It may wait, a second for the first view of the cluster and a second for each link
// that has become slow; it ends the turn then.
func (p *Port) Broadcast(t *link.Turn, m Message) Code {
	return p.cast(t, kindBroadcast, m)
}

// Publish sends m to every subscriber of the topic, as Broadcast does. It yields
// CodeOK, subscribers or not, unless the name is none.
func (p *Port) Publish(t *link.Turn, m Message) Code {
	switch code := p.cast(t, kindEvent, m); code {
	case CodeInvalid:
		return code
	default:
		return CodeOK
	}
}

func (p *Port) cast(t *link.Turn, k kind, m Message) Code {
	if len(m.Name) == 0 || len(m.Name) > math.MaxUint16 {
		return CodeInvalid
	}
	n := p.node
	c := cast{kind: k, hops: maxHops, flow: p.party.flow, origin: n.self, Message: m}
	n.mu.Lock()
	if p.party.closed {
		n.mu.Unlock()
		return CodeClosing
	}
	g := n.openFor(k, m.Name)
	if !n.use(g, n.during(t)) && !g.wanted() {
		n.mu.Unlock()
		n.dropped.unsent.Add(1)
		return CodeOverloaded
	}
	if !g.viewed {
		n.awaitView(t, g)
	}
	p.casts++
	c.sequence = p.casts
	here, nodes := g.here, g.ring.nodes
	var hops []hop
	if len(nodes) > fanOut || g.ring.partial || len(g.kept) > 0 {
		hops = n.plant(p, g, &c)
	}
	n.mu.Unlock()

	n.give(t, here, &c)
	if c.tree {
		n.sendAlong(t, &c, hops, true)
	} else {
		n.sendToAll(t, &c, nodes)
	}
	if len(here)+len(nodes) == 0 {
		return CodeNoService
	}
	return CodeOK
}

// give hands c to sessions of this node.
func (n *Node) give(t *link.Turn, here []*party, c *cast) {
	for _, at := range here {
		switch {
		case c.kind == kindBroadcast && !at.sink.Broadcast(t, c.Message):
			n.dropped.broadcasts.Add(1)
		case c.kind == kindEvent && !at.sink.Event(t, c.Message):
			n.dropped.events.Add(1)
		}
	}
}

// awaitView waits for the first view of g, for a limited time. The caller holds
// the lock, which is released meanwhile.
func (n *Node) awaitView(t *link.Turn, g *group) {
	if n.ended {
		return
	}
	if g.awaited == nil {
		g.awaited = make(chan struct{})
	}
	viewed := g.awaited
	g.inflight++ // keeps it watched
	n.mu.Unlock()
	t.End()
	timer := time.NewTimer(viewWait)
	select {
	case <-viewed:
	case <-timer.C:
	}
	timer.Stop()
	n.mu.Lock()
	g.inflight--
}

// sendToAll sends c directly.
func (n *Node) sendToAll(t *link.Turn, c *cast, nodes []link.ID) {
	if len(nodes) == 0 {
		return
	}
	head := n.heads.Get().(*[]byte)
	*head = appendCast((*head)[:0], c)
	for _, to := range nodes {
		if n.sendCast(t, to, c, *head, true) != nil {
			n.dropped.unsent.Add(1)
		}
	}
	n.heads.Put(head)
}

// sendCast sends one copy. One who may wait waits for room, unless the node was
// slow before and has not caught up since.
func (n *Node) sendCast(t *link.Turn, to link.ID, c *cast, head []byte, mayWait bool) error {
	err := n.overlay.Send(t, to, uint64(c.flow), head, c.Payload)
	if mayWait && errors.Is(err, link.ErrFull) && !n.isSlow(to) {
		t.End()
		ctx, cancel := context.WithTimeout(context.Background(), roomWait)
		if n.overlay.AwaitRoom(ctx, to, uint64(c.flow)) == nil {
			err = n.overlay.Send(t, to, uint64(c.flow), head, c.Payload)
		}
		cancel()
		if err != nil {
			n.setSlow(to, true)
		}
	}
	if err == nil && n.slowNodes.Load() > 0 {
		n.setSlow(to, false)
	}
	return err
}

func (n *Node) isSlow(node link.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slow[node]
}

func (n *Node) setSlow(node link.ID, slow bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slow {
		n.slow[node] = true
	} else {
		delete(n.slow, node)
	}
	n.slowNodes.Store(int64(len(n.slow)))
}

// openFor yields the group that messages of a kind go to.
func (n *Node) openFor(k kind, name []byte) *group {
	if k == kindEvent {
		return n.openTopic(name)
	}
	return n.open(name)
}

// Subscribe makes the session a subscriber of the topic. The channel is closed
// when every peer knows that this node has one (see overlay.Announce): what anybody
// publishes from then on comes. It is closed too when nobody will be told because Run has ended. Nil: the session
// is subscribed already, or the name is empty or exceeds 65,535 bytes.
func (p *Port) Subscribe(topic []byte) <-chan struct{} {
	n := p.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(topic) == 0 || len(topic) > math.MaxUint16 || p.topics[string(topic)] != nil {
		return nil
	}
	told := make(chan struct{})
	if p.party.closed || n.ended {
		close(told)
		return told
	}
	g := n.openTopic(topic)
	n.join(g, &p.party)
	if p.topics == nil {
		p.topics = make(map[string]*group)
	}
	p.topics[g.name] = g
	if g.confirmed {
		close(told)
	} else {
		g.toldWaiters = append(g.toldWaiters, told)
	}
	n.change(g)
	return told
}

// Unsubscribe ends that. False: the session is not subscribed.
func (p *Port) Unsubscribe(topic []byte) bool {
	n := p.node
	n.mu.Lock()
	defer n.mu.Unlock()
	g := p.topics[string(topic)]
	if g == nil {
		return false
	}
	n.unsubscribe(p, g)
	return true
}

func (n *Node) unsubscribe(p *Port, g *group) {
	delete(p.topics, g.name)
	n.part(g, &p.party)
	n.change(g)
	n.drop(g)
}
