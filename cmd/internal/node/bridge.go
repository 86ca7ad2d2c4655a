package node

import (
	"time"

	"github.com/project-iris/iris/relay"
	"github.com/project-iris/iris/spec/wire"
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// A bridge lets the relay use the patterns: it is the relay's Network, and its
// ports translate between the frames of clients and the messages of patterns.
type bridge struct {
	patterns *patterns.Node
	self     func(request []byte) ([]byte, error) // serves SelfCluster
}

// Attach gives a new session its port. It implements relay.Network.
func (b *bridge) Attach(s *relay.Session, cluster string) (relay.Port, <-chan struct{}, error) {
	p := &port{bridge: b, session: s}
	p.port = b.patterns.Attach(&sink{session: s, port: p})
	if cluster == "" {
		return p, nil, nil
	}
	return p, p.port.Serve(cluster), nil
}

// A port is one session's way into the patterns. It belongs to the session's
// reader, and so does its turn.
type port struct {
	bridge  *bridge
	session *relay.Session
	port    *patterns.Port
	turn    link.Turn
}

// Request sends a request on its way. relay.md 5.7: names that begin with `$`
// are the node's own.
func (p *port) Request(r wire.Request) {
	if wire.Reserved(r.Cluster) {
		p.session.PushReply(p.bridge.reserved(r))
		p.turn.Touch(p.session)
		return
	}
	p.port.Request(&p.turn, patterns.Request{ID: r.ID, Cluster: r.Cluster, Budget: duration(r.Budget), Headers: r.Headers, Payload: r.Payload})
}

// Reply answers a request that the session was given.
func (p *port) Reply(r wire.Reply) {
	p.port.Reply(&p.turn, patterns.Reply{ID: r.ID, Code: patterns.Code(r.Code), Text: r.Text, Headers: r.Headers, Payload: r.Payload})
}

// Cancel gives up a request of the session's own.
func (p *port) Cancel(id uint64) { p.port.Cancel(&p.turn, id) }

// Drain takes the session's service out of its cluster.
func (p *port) Drain() { p.port.Withdraw() }

// Flush ends the reader's turn.
func (p *port) Flush() { p.turn.End() }

// Close detaches the session.
func (p *port) Close() {
	p.port.Close(&p.turn)
	p.turn.End()
}

// reserved answers a request to the node itself.
func (b *bridge) reserved(r wire.Request) wire.Reply {
	if string(r.Cluster) != SelfCluster {
		return wire.Reply{ID: r.ID, Code: wire.CodeNoService, Text: []byte("no such service of the node")}
	}
	answer, err := b.self(r.Payload)
	if err != nil {
		return wire.Reply{ID: r.ID, Code: wire.CodeFailed, Text: []byte(err.Error())}
	}
	return wire.Reply{ID: r.ID, Payload: answer}
}

// A sink hands what the patterns have for a client to its session.
type sink struct {
	session *relay.Session
	port    *port // of the same session
}

// Request delivers a request to a service; false means that it has no credit.
func (s *sink) Request(t *link.Turn, r patterns.Request) bool {
	if !s.session.PushRequest(wire.Request{ID: r.ID, Cluster: r.Cluster, Budget: milliseconds(r.Budget), Headers: headersOf(r.Headers), Payload: r.Payload}) {
		return false
	}
	t.Touch(s.session)
	return true
}

// Reply delivers the outcome of one of the client's own requests.
func (s *sink) Reply(t *link.Turn, r patterns.Reply) {
	s.session.PushReply(wire.Reply{ID: r.ID, Code: wire.Code(r.Code), Text: r.Text, Headers: headersOf(r.Headers), Payload: r.Payload})
	t.Touch(s.session)
}

// Cancel tells a service that a request it was given is no longer wanted.
func (s *sink) Cancel(t *link.Turn, id uint64) {
	s.session.PushCancel(id)
	t.Touch(s.session)
}

// duration is a budget of the relay protocol as the patterns have it.
func duration(budget uint32) time.Duration {
	if budget == wire.NoDeadline {
		return -1
	}
	return time.Duration(budget) * time.Millisecond
}

// milliseconds is the reverse, rounded up: a service is not to give up before its
// requester does.
func milliseconds(budget time.Duration) uint32 {
	if budget < 0 {
		return wire.NoDeadline
	}
	return uint32(min((budget+time.Millisecond-1)/time.Millisecond, wire.NoDeadline-1))
}

// headersOf checks headers that may come from another node, which may be broken:
// a client is to get none that are not what the relay protocol says.
func headersOf(b []byte) wire.Headers {
	if len(b) == 0 {
		return nil
	}
	h, err := wire.ParseHeaders(b)
	if err != nil {
		return nil
	}
	return h
}
