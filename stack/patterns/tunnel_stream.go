package patterns

import (
	"context"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// A Stream is what a tunnel between two nodes needs; *link.Stream is one, and its
// comments state the obligations.
type Stream interface {
	Send(t *link.Turn, head, body []byte) error
	Finish()
	Abort(reason link.Reason)
}

// Over has the patterns use an overlay of package overlay.
func Over(o *overlay.Overlay) Overlay { return overlaid{o} }

type overlaid struct{ *overlay.Overlay }

// OpenStream yields the link's stream behind the interface.
func (o overlaid) OpenStream(ctx context.Context, to link.ID, h link.StreamHandler) (Stream, error) {
	s, err := o.Overlay.OpenStream(ctx, to, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// A leg is the stream of a tunnel, as this node sees it.
type leg struct {
	node   *Node
	peer   link.ID
	stream Stream
	tunnel *Tunnel // its end here. Set before the stream is open, or else by the stream's reader
	opened bool    // an open has come; of the reader
	held   bool    // is counted among the peer's; guarded by the node's mutex
}

var (
	_ side               = (*leg)(nil)
	_ link.StreamHandler = (*leg)(nil)
)

// Stream takes a tunnel that a peer opens. It implements overlay.Handler.
func (n *Node) Stream(from link.ID, s *link.Stream) link.StreamHandler { return n.Incoming(from, s) }

// Incoming is Stream for any kind of stream.
func (n *Node) Incoming(from link.ID, s Stream) link.StreamHandler {
	return &leg{node: n, peer: from, stream: s}
}

// hand sends an event to the peer.
func (l *leg) hand(t *link.Turn, _ *Tunnel, e event) error {
	head := l.node.heads.Get().(*[]byte)
	*head = appendEvent((*head)[:0], e)
	err := l.stream.Send(t, *head, e.body)
	l.node.heads.Put(head)
	return err
}

// close ends this side of the stream.
func (l *leg) close(broken bool) {
	if broken {
		l.stream.Abort(link.ReasonProtocol)
	} else {
		l.stream.Finish()
	}
	l.release()
}

// hold has the peer in use until release. Called with the node's mutex.
func (l *leg) hold() {
	l.held = true
	l.node.tunnels.hold(l.peer)
}

// release ends that, once.
func (l *leg) release() {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	if l.held {
		l.held = false
		l.node.tunnels.release(l.peer)
	}
}

// Received handles a message of the stream.
func (l *leg) Received(t *link.Turn, msg []byte) {
	if !l.opened && l.tunnel == nil {
		l.opened = true
		o, err := parseOpen(msg)
		if err != nil {
			l.malformed()
			l.close(true)
			return
		}
		l.node.receiveOpen(t, l, o)
		return
	}
	if l.tunnel == nil { // it was refused
		return
	}
	e, err := parseEvent(msg)
	if err != nil {
		l.malformed()
		l.lost(t)
		return
	}
	l.tunnel.arrive(t, l, e)
}

func (l *leg) malformed() {
	l.node.dropped.malformed.Add(1)
	l.node.log.Debug("a tunnel breaks the rules", "peer", l.peer)
}

// Finished is the peer's FIN: right only after the tunnel's end.
func (l *leg) Finished() {
	var t link.Turn
	l.lost(&t)
	t.End()
}

// Broken tells that the stream is gone.
func (l *leg) Broken(error) {
	var t link.Turn
	l.lost(&t)
	t.End()
}

// lost ends the tunnel, unless it has ended or goes on elsewhere.
func (l *leg) lost(t *link.Turn) {
	p := l.tunnel
	if p == nil {
		return
	}
	p.mu.Lock()
	mine := p.other == l
	p.mu.Unlock()
	if mine { // and stays so: only a refusal, which this reader handles, changes it
		p.fail(t, CodeLost, textTunnelBroken, false, true)
	}
}
