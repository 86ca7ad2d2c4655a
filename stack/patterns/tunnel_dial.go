package patterns

import (
	"context"

	"github.com/project-iris/iris/stack/link"
)

// dial has a goroutine open a stream to a member's node and ask there. False: too
// many do, or the node has ended. Called with the node's mutex.
func (n *Node) dial(o *opening, to link.ID) bool {
	if n.ended || len(n.tunnels.dialing) >= maxDials {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background()) // ended by the tunnel's end, and by that of Run
	n.tunnels.dialing[o] = cancel
	l := &leg{node: n, peer: to, tunnel: o.tunnel}
	l.hold()
	n.dials.Go(func() {
		var t link.Turn
		n.connect(ctx, &t, o, l)
		t.End()
	})
	return true
}

// connect opens a stream and sends the open on it. What provably was not sent goes
// to another member.
func (n *Node) connect(ctx context.Context, t *link.Turn, o *opening, l *leg) {
	p := o.tunnel
	s, err := n.overlay.OpenStream(ctx, l.peer, l)
	n.mu.Lock()
	n.tunnels.dialing[o]()
	delete(n.tunnels.dialing, o)
	open := o.open
	open.Budget = o.left(n.now())
	n.mu.Unlock()
	if err != nil {
		n.log.Debug("no stream for a tunnel", "peer", l.peer, "err", err)
		l.release()
		n.refused(t, p, true)
		return
	}
	l.stream = s
	if !p.connected(l) {
		s.Abort(link.ReasonNone)
		l.release()
		return
	}
	if err := s.Send(t, appendOpen(nil, open), nil); err != nil && p.disconnected(l) {
		s.Abort(link.ReasonNone)
		l.release()
		n.refused(t, p, true)
	}
	p.done(t, nil)
}

// connected sets the stream that goes to the other side, and has the tunnel busy.
// False: it has ended.
func (p *Tunnel) connected(l *leg) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.phase != phaseOpening {
		return false
	}
	p.other = l
	p.busy++
	return true
}

// disconnected takes back a stream that the open did not fit into. False: the
// tunnel has ended.
func (p *Tunnel) disconnected(l *leg) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.phase != phaseOpening || p.other != l {
		return false
	}
	p.other = nil
	return true
}

// receiveOpen offers a tunnel of a peer to the members on this node.
func (n *Node) receiveOpen(t *link.Turn, l *leg, o Open) {
	var tried []*party
	n.mu.Lock()
	l.hold()
	n.mu.Unlock()
	for {
		n.mu.Lock()
		m, code := n.host(&o, tried)
		var end *Tunnel
		if m != nil {
			end = n.newEnd(m, l, &o)
			tried = append(tried, m.at)
		}
		n.mu.Unlock()
		if m == nil {
			_ = l.hand(t, nil, event{kind: kindAbort, code: code, body: textOf(code)}) // without it the FIN ends it
			l.close(false)
			return
		}
		if end == nil {
			continue
		}
		l.tunnel = end
		if end.owner.sink.Tunnel(t, end, o) || !n.dismiss(end) {
			return
		}
		l.tunnel = nil
	}
}

// host chooses the member on this node for a tunnel of a peer; nil: the code says why.
func (n *Node) host(o *Open, tried []*party) (*member, Code) {
	g := n.groups[string(o.Cluster)]
	switch {
	case o.Budget == 0:
		return nil, CodeTimeout
	case n.draining || n.ended:
		return nil, CodeClosing
	case g == nil || len(g.locals.members) == 0:
		return nil, CodeNoService
	}
	if m := n.choose(g, tried, true); m != nil {
		return m, CodeOK
	}
	return nil, CodeOverloaded
}
