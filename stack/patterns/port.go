package patterns

import (
	"math"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A Request is sent by a client, or given to a service.
type Request struct {
	ID      uint64 // the client's for Port.Request; the node's own for Sink.Request
	Cluster []byte
	Budget  time.Duration // time left; negative: no deadline
	Headers []byte        // encoded as they came, opaque
	Payload []byte
}

// A Reply is the outcome of a request.
type Reply struct {
	ID      uint64 // as in Request
	Code    Code
	Text    []byte // with any code but CodeOK, for a human
	Headers []byte // encoded as they came, opaque
	Payload []byte
}

// A Sink is a session as the patterns see it. Calls come from many goroutines
// and must not block; byte slices are valid until return. Some may still come
// shortly after Port.Close.
type Sink interface {
	// Request gives the session's service a request. False: it has no credit, and nothing was done.
	Request(t *link.Turn, r Request) bool
	// Reply is the one outcome of a request of the session's own.
	Reply(t *link.Turn, r Reply)
	// Cancel tells that a request given to the service is no longer wanted.
	Cancel(t *link.Turn, id uint64)
	// Broadcast gives the session's service a message to its cluster. False: it has no credit, and misses it.
	Broadcast(t *link.Turn, m Message) bool
	// Event gives the session a message to a topic that it has subscribed to. False as for Broadcast.
	Event(t *link.Turn, m Message) bool
	// Tunnel offers the session's service a tunnel, to be answered by p.Accept or p.Abort. False: it was not taken.
	Tunnel(t *link.Turn, p *Tunnel, o Open) bool
}

// A Port is a session's way in. Its methods are called by one goroutine at a
// time, the session's reader. It does nothing after Close.
type Port struct {
	node   *Node
	party  party
	member *member           // in its cluster, if it serves one
	topics map[string]*group // that it has subscribed to
	casts  uint64            // broadcasts and events sent; the reader's own
	traced map[*group]trace  // the last of them that went to a group through a tree
}

// Attach gives a session its port. It has to be closed.
func (n *Node) Attach(s Sink) *Port {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports++
	return &Port{node: n, party: party{sink: s, flow: n.ports}}
}

// Serve makes the session a member of the cluster, and of no other one. The
// channel is closed when every peer knows (see overlay.Announce), or when nobody
// will be told because the node drains or Run has ended.
func (p *Port) Serve(cluster string) <-chan struct{} {
	n := p.node
	told := make(chan struct{})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.withdraw(p)
	if n.draining || n.ended || p.party.closed {
		close(told)
		return told
	}
	g := n.open([]byte(cluster))
	p.member = &member{group: g, at: &p.party, count: 1}
	g.locals.add(p.member)
	n.join(g, &p.party)
	g.toldWaiters = append(g.toldWaiters, told)
	n.change(g)
	return told
}

// Request sends r on its way; its outcome comes through Sink.Reply, exactly
// once, possibly before Request returns. An r.ID that is in use by another request
// of the session is invalid, and so is a cluster name that is empty or exceeds
// 65,535 bytes.
func (p *Port) Request(t *link.Turn, r Request) {
	n := p.node
	n.mu.Lock()
	if p.party.closed {
		n.mu.Unlock()
		return
	}
	if p.party.asked == nil {
		p.party.asked = make(map[uint64]*entry)
	}
	s := n.accept(p, r)
	n.mu.Unlock()
	n.dispatch(t, s)
}

// accept begins a request of a session.
func (n *Node) accept(p *Port, r Request) step {
	failed := func(c Code, text string) step {
		return step{end: outcome{asker: &p.party, reply: Reply{ID: r.ID, Code: c, Text: []byte(text)}}}
	}
	switch {
	case len(r.Cluster) == 0 || len(r.Cluster) > math.MaxUint16:
		return failed(CodeInvalid, "the name of the cluster is empty or too long")
	case p.party.asked[r.ID] != nil:
		return failed(CodeInvalid, "the id is in use by another request of the session")
	case r.Budget == 0:
		return failed(CodeTimeout, textTimeout)
	}
	now := n.now()
	g := n.open(r.Cluster)
	if !n.use(g, now) {
		return failed(CodeOverloaded, "requests to too many clusters are in flight")
	}
	e := n.begin(&p.party, r.ID, p.party.flow, g, now, r.Budget)
	if e == nil {
		return failed(CodeOverloaded, "too many requests are in flight")
	}
	return n.place(e, r, now)
}

// Reply answers a request that Sink.Request gave; false: unknown or no longer
// wanted, it was dropped and counted. A code that is none of the list counts as
// CodeFailed.
func (p *Port) Reply(t *link.Turn, r Reply) bool {
	n := p.node
	if r.Code > CodeInvalid {
		r.Code = CodeFailed
	}
	n.mu.Lock()
	o, known := n.answer(&p.party, r)
	n.mu.Unlock()
	if !known {
		n.dropped.unknown.Add(1)
		return false
	}
	n.deliver(t, &o, Request{})
	return true
}

// Cancel gives up a request of the session's own. Its outcome is CodeCancelled,
// unless another was first.
func (p *Port) Cancel(t *link.Turn, id uint64) {
	n := p.node
	n.mu.Lock()
	e := p.party.asked[id]
	if e == nil {
		n.mu.Unlock()
		return
	}
	o := n.finish(e, CodeCancelled, true)
	n.mu.Unlock()
	n.deliver(t, &o, Request{})
}

// Withdraw takes the session's service out of its cluster; what runs goes on.
func (p *Port) Withdraw() {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	p.node.withdraw(p)
}

func (n *Node) withdraw(p *Port) {
	if p.member == nil {
		return
	}
	g := p.member.group
	g.locals.remove(p.member)
	n.part(g, &p.party)
	p.member = nil
	n.change(g)
	n.drop(g)
}

// Close detaches: own requests are given up and cancelled at their member,
// without an outcome; requests that the service was given end as CodeLost, and so
// do tunnels, for the other side; subscriptions end. Close is idempotent.
func (p *Port) Close(t *link.Turn) {
	n := p.node
	n.mu.Lock()
	p.party.closed = true
	n.withdraw(p)
	for _, g := range p.topics {
		n.unsubscribe(p, g)
	}
	n.mu.Unlock()
	n.sweep(t, func() (outcome, bool) { return n.orphan(&p.party) })
	n.sweep(t, func() (outcome, bool) { return n.bereave(&p.party) })
	n.closeTunnels(t, &p.party)
}
