package node

import (
	"sync/atomic"

	"github.com/project-iris/iris/relay"
	"github.com/project-iris/iris/spec/wire"
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// textUnread is what the other side is told of a client that leaves no room.
const textUnread = "the application at the other end does not read"

// A tunnel is one end of a tunnel: the relay's Tunnel for what the client sends.
type tunnel struct {
	port    *port // of the session; for its turn
	session *relay.Session
	id      uint64
	end     atomic.Pointer[patterns.Tunnel] // nil until the patterns have returned it
	unread  atomic.Bool                     // the client left no room
}

// Open asks for a tunnel to a member of a cluster.
func (p *port) Open(o wire.Open) relay.Tunnel {
	x := &tunnel{port: p, session: p.session, id: o.ID}
	if wire.Reserved(o.Cluster) {
		tunnelSink{x}.Aborted(&p.turn, patterns.CodeNoService, []byte("no such service of the node"))
		return x
	}
	x.end.Store(p.port.Open(&p.turn, patterns.Open{ID: o.ID, Cluster: o.Cluster, Budget: duration(o.Budget), Window: o.Window, Headers: o.Headers}, tunnelSink{x}))
	if x.unread.Load() { // noted before there was an end to abort
		x.Abort(wire.CodeOverloaded, []byte(textUnread))
	}
	return x
}

// Tunnel offers a tunnel to a service.
func (s *sink) Tunnel(t *link.Turn, end *patterns.Tunnel, o patterns.Open) bool {
	x := &tunnel{port: s.port, session: s.session, id: o.ID}
	x.end.Store(end)
	if !s.session.PushOpen(wire.Open{ID: o.ID, Cluster: o.Cluster, Budget: milliseconds(o.Budget), Window: o.Window, Headers: headersOf(o.Headers)}, x) {
		return false
	}
	t.Touch(s.session)
	end.Offered(t, tunnelSink{x})
	return true
}

// Accept passes on that the service accepts. It implements relay.Tunnel.
func (x *tunnel) Accept(o wire.Opened) {
	x.end.Load().Accept(&x.port.turn, o.Window, o.Headers, tunnelSink{x})
}

// Data passes on a part of a message of the client.
func (x *tunnel) Data(last bool, payload []byte) bool {
	return x.end.Load().Data(&x.port.turn, last, payload)
}

// Allow passes on what the client is ready to get.
func (x *tunnel) Allow(n uint32) { x.end.Load().Allow(&x.port.turn, n) }

// Finish passes on that the client has sent everything.
func (x *tunnel) Finish() { x.end.Load().Finish(&x.port.turn) }

// Abort passes on that the client ends the tunnel.
func (x *tunnel) Abort(code wire.Code, text []byte) {
	if end := x.end.Load(); end != nil {
		end.Abort(&x.port.turn, patterns.Code(code), text)
	}
}

// A tunnelSink is a tunnel for what the client gets.
type tunnelSink struct{ x *tunnel }

// Opened tells the client that its tunnel is open.
func (s tunnelSink) Opened(t *link.Turn, window uint32, headers []byte) {
	s.pushed(t, s.x.session.PushOpened(wire.Opened{ID: s.x.id, Window: window, Headers: headersOf(headers)}))
}

// Data gives the client a part of a message.
func (s tunnelSink) Data(t *link.Turn, last bool, payload []byte) {
	s.pushed(t, s.x.session.PushData(wire.Data{ID: s.x.id, Last: last, Payload: payload}))
}

// Allow tells the client how much more it may send.
func (s tunnelSink) Allow(t *link.Turn, n uint32) { s.pushed(t, s.x.session.PushAllow(s.x.id, n)) }

// Finish tells the client that the other side has sent everything.
func (s tunnelSink) Finish(t *link.Turn) { s.pushed(t, s.x.session.PushFinish(s.x.id)) }

// Aborted tells the client that the tunnel has ended.
func (s tunnelSink) Aborted(t *link.Turn, code patterns.Code, text []byte) {
	s.x.session.PushAbort(s.x.id, wire.Code(code), wire.Text(text))
	t.Touch(s.x.session)
}

// pushed sees to what was pushed: it is flushed, and if the client left no room for
// it, the other side is told that the tunnel has ended.
func (s tunnelSink) pushed(t *link.Turn, ok bool) {
	t.Touch(s.x.session)
	if ok {
		return
	}
	s.x.unread.Store(true) // first: Open looks at it once it has stored the end
	if end := s.x.end.Load(); end != nil {
		end.Abort(t, patterns.CodeOverloaded, []byte(textUnread))
	}
}
