package subject

import (
	"context"
	"errors"
	"fmt"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// Init and the others make an attached an iris.ServiceHandler.
func (a *attached) Init(conn *iris.Connection) error {
	a.conn = conn
	a.s.conns.Store(a.name, a)
	return nil
}

// HandleRequestContext tells of a request and returns what the command reply says.
func (a *attached) HandleRequestContext(ctx context.Context, r *iris.Request) (*iris.Reply, error) {
	name, reply := fmt.Sprint("request-", a.s.names.Add(1)), make(chan command, 1)
	a.s.replies.Store(name, reply)
	more := fields{"request": name}
	if deadline, ok := ctx.Deadline(); ok {
		more["budget_ms"] = max(0, time.Until(deadline).Milliseconds())
	}
	a.notice("request", r.Payload, r.Headers, more)
	stop := context.AfterFunc(ctx, func() { a.s.tell(fields{"notice": "cancelled", "request": name}) })
	defer stop()
	select {
	case c := <-reply:
		if c.Payload == nil {
			return nil, errors.New(c.Error)
		}
		return &iris.Reply{Payload: c.Payload, Headers: c.Headers}, nil
	case <-a.over:
		return nil, errUnsupported
	}
}

// HandleBroadcastMessage tells of a broadcast.
func (a *attached) HandleBroadcastMessage(m *iris.Message) {
	a.notice("broadcast", m.Payload, m.Headers, nil)
}

// HandleTunnel keeps a tunnel for tunnel-accept until it is closed.
func (a *attached) HandleTunnel(t *iris.Tunnel) {
	ctx, done := context.WithCancel(context.Background())
	defer done()
	a.given <- &tunnel{t, done}
	select {
	case <-ctx.Done():
	case <-a.over:
	}
}

// HandleDrop tells that the node was given up.
func (a *attached) HandleDrop(reason error) {
	a.s.tell(fields{"notice": "dropped", "conn": a.name, "text": reason.Error()})
}

// HandleRequest and HandleBroadcast are not used: the methods above are preferred.
func (a *attached) HandleRequest([]byte) ([]byte, error) { return nil, errUnsupported }
func (a *attached) HandleBroadcast([]byte)               {}

// A topic is a handler of events.
type topic struct {
	a    *attached
	name string
}

// HandleEventMessage tells of an event.
func (t topic) HandleEventMessage(m *iris.Message) {
	t.a.notice("event", m.Payload, m.Headers, fields{"topic": t.name})
}

// HandleEvent is not used: HandleEventMessage is preferred.
func (t topic) HandleEvent([]byte) {}
