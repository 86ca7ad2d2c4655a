package patterns

import (
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// Message handles a message of a peer. The error says how the peer breaks the protocol; the
// message was dropped and counted then. It implements overlay.Handler.
func (n *Node) Message(t *link.Turn, from link.ID, msg []byte) error {
	err := errMalformed
	if len(msg) > 0 {
		switch kind(msg[0]) {
		case kindRequest:
			err = n.receiveRequest(t, from, msg)
		case kindReply:
			err = n.receiveReply(t, from, msg)
		case kindRefusal:
			err = n.receiveRefusal(t, from, msg)
		case kindCancel:
			err = n.receiveCancel(t, from, msg)
		case kindBroadcast, kindEvent:
			err = n.receiveCast(t, from, msg)
		}
	}
	if err != nil {
		n.dropped.malformed.Add(1)
	}
	return err
}

// receiveRequest offers a request to the members on this node.
func (n *Node) receiveRequest(t *link.Turn, from link.ID, msg []byte) error {
	r, flow, err := parseRequest(msg)
	if err != nil {
		return err
	}
	n.mu.Lock()
	p := n.peer(from)
	if !p.seen.first(r.ID) {
		n.mu.Unlock()
		n.dropped.copies.Add(1)
		return nil
	}
	s := n.acceptRemote(p, flow, r)
	n.mu.Unlock()
	n.dispatch(t, s)
	return nil
}

// acceptRemote begins a request of another node.
func (n *Node) acceptRemote(p *party, flow uint32, r Request) step {
	now := n.now()
	p.used = now
	end := outcome{asker: p, flow: flow, reply: Reply{ID: r.ID}}
	g := n.groups[string(r.Cluster)]
	switch {
	case r.Budget == 0:
		end.reply.Code = CodeTimeout
		return step{end: end}
	case n.draining:
		end.refuse = reasonDraining
		return step{end: end, request: r}
	case g == nil || len(g.locals.members) == 0:
		end.refuse = reasonNoMember
		return step{end: end, request: r}
	}
	e := n.begin(p, r.ID, flow, g, now, r.Budget)
	if e == nil {
		end.refuse = reasonOverloaded
		return step{end: end, request: r}
	}
	return n.place(e, r, now)
}

// receiveReply ends a request that was sent to a peer.
func (n *Node) receiveReply(t *link.Turn, from link.ID, msg []byte) error {
	r, err := parseReply(msg)
	if err != nil {
		return err
	}
	n.mu.Lock()
	o, known := n.answer(n.peers[from], r)
	n.mu.Unlock()
	if !known {
		n.dropped.unknown.Add(1)
		return nil
	}
	n.deliver(t, &o, Request{})
	return nil
}

// receiveRefusal sends a request that a peer has returned to another member.
func (n *Node) receiveRefusal(t *link.Turn, from link.ID, msg []byte) error {
	back, err := parseRefusal(msg)
	if err != nil {
		return err
	}
	n.mu.Lock() // the send may not have returned yet
	e := n.at(from, back.id)
	if e == nil {
		n.mu.Unlock()
		n.dropped.unknown.Add(1)
		return nil
	}
	r := Request{Cluster: []byte(e.group.name), Headers: back.headers, Payload: back.payload}
	s := n.again(e, r, back.why == reasonOverloaded)
	n.mu.Unlock()
	n.dispatch(t, s)
	return nil
}

// receiveCancel ends a request of a peer. It is no mistake if it has ended.
func (n *Node) receiveCancel(t *link.Turn, from link.ID, msg []byte) error {
	id, err := parseCancel(msg)
	if err != nil {
		return err
	}
	n.mu.Lock()
	p := n.peers[from]
	if p == nil || p.asked[id] == nil {
		n.mu.Unlock()
		return nil
	}
	o := n.finish(p.asked[id], CodeCancelled, true)
	n.mu.Unlock()
	o.asker = nil
	n.deliver(t, &o, Request{})
	return nil
}

// View takes over the members of a group, and sends on what waited for
// them. It implements overlay.Handler.
func (n *Node) View(key overlay.Key, members []overlay.Member, whole bool) {
	n.mu.Lock()
	g := n.keys[key]
	if g == nil || !g.wanted() || g.lapsed { // if lapsed, it may be from before
		n.mu.Unlock()
		return
	}
	n.setRemotes(g, members, whole)
	g.viewed = true
	if g.awaited != nil {
		close(g.awaited)
		g.awaited = nil
	}
	waited := n.unwait(g)
	n.mu.Unlock()

	const flushEach = 64
	var t link.Turn
	n.take(&t, waited)
	for i := 1; ; i++ {
		n.mu.Lock()
		e := g.parked.head
		if e == nil {
			waiting := g.waiting
			g.waiting = nil
			n.mu.Unlock()
			n.resume(&t, waiting)
			t.End()
			return
		}
		s := n.place(e, n.unpark(e), n.now())
		n.mu.Unlock()
		n.dispatch(&t, s)
		if i%flushEach == 0 {
			t.End()
		}
	}
}

// Lost ends what was in flight to a peer, and gives up what it has asked for; what
// it was to hand on goes to its members in another way.
// It implements overlay.Handler.
func (n *Node) Lost(peer link.ID) {
	n.mu.Lock()
	detours := n.detours(peer)
	delete(n.slow, peer)
	n.slowNodes.Store(int64(len(n.slow)))
	p, now := n.peers[peer], n.now()
	if p != nil && p.members == 0 {
		delete(n.peers, peer) // if it comes back, it is another party
	}
	for id, q := range n.peers {
		if q.members == 0 && len(q.asked) == 0 && q.running.head == nil && now-q.used > idleAfter {
			delete(n.peers, id) // a message that came after the loss brought it back
		}
	}
	n.mu.Unlock()
	var t link.Turn
	n.take(&t, detours)
	if p != nil {
		n.sweep(&t, func() (outcome, bool) { return n.bereave(p) })
		n.sweep(&t, func() (outcome, bool) { return n.orphan(p) })
	}
	t.End()
}
