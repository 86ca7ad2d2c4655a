package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// An attached is a connection and, of a service, its handler.
type attached struct {
	s       *subject
	name    string
	conn    *iris.Connection
	service *iris.Service // nil: a client
	tunnels chan *tunnel  // that nobody has taken yet
	over    chan struct{} // closed by close
	closing sync.Once
}

// A topic is a handler of events.
type topic struct {
	a    *attached
	name string
}

// A tunnel is open; the handler of a service's one waits until it is done with.
type tunnel struct {
	*iris.Tunnel
	done    chan struct{}
	closing sync.Once
}

func (a *attached) close() {
	a.closing.Do(func() { close(a.over) })
	if a.service != nil {
		a.service.Abort()
	} else {
		_ = a.conn.Close()
	}
}

func (a *attached) do(ctx context.Context, c command) (fields, error) {
	switch c.Op {
	case "request":
		r, err := a.conn.Call(ctx, &iris.Request{Cluster: c.Cluster, Payload: c.Payload, Headers: c.Headers})
		if err != nil {
			return nil, err
		}
		return fields{"payload": r.Payload, "headers": r.Headers}, nil
	case "broadcast":
		return nil, a.conn.Broadcast(ctx, c.Cluster, c.Payload)
	case "publish":
		return nil, a.conn.Publish(ctx, c.Topic, c.Payload)
	case "subscribe":
		return nil, a.conn.Subscribe(ctx, c.Topic, topic{a, c.Topic}, nil)
	case "unsubscribe":
		return nil, a.conn.Unsubscribe(ctx, c.Topic)
	case "tunnel-open":
		t, err := a.conn.Tunnel(ctx, c.Cluster)
		if err != nil {
			return nil, err
		}
		return nil, a.s.name(c.Tunnel, &tunnel{Tunnel: t, done: make(chan struct{})})
	case "tunnel-accept":
		select {
		case t := <-a.tunnels:
			return nil, a.s.name(c.Tunnel, t)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "drain":
		if a.service == nil {
			return nil, errUnsupported
		}
		return nil, a.service.Shutdown(ctx)
	case "close":
		a.close()
		return nil, nil
	}
	return nil, errUnsupported
}

func (s *subject) name(name string, t *tunnel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tunnels[name] = t
	return nil
}

func (t *tunnel) do(ctx context.Context, c command) (fields, error) {
	switch {
	case c.Op == "tunnel-send":
		return nil, t.Send(ctx, c.Payload)
	case c.Op == "tunnel-recv":
		payload, err := t.Recv(ctx)
		return fields{"payload": payload}, err
	case c.How == "finish":
		return nil, t.CloseSend()
	case c.How == "abort":
		defer t.closing.Do(func() { close(t.done) })
		return nil, t.Abort(c.Reason)
	}
	defer t.closing.Do(func() { close(t.done) })
	return nil, t.Close()
}

// Init and the others make it an iris.ServiceHandler.
func (a *attached) Init(conn *iris.Connection) error {
	a.conn = conn
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.s.conns[a.name] = a
	return nil
}

func (a *attached) HandleRequest([]byte) ([]byte, error) { return nil, errUnsupported }

func (a *attached) HandleRequestContext(ctx context.Context, r *iris.Request) ([]byte, error) {
	a.s.mu.Lock()
	a.s.last++
	name, reply := fmt.Sprint("request-", a.s.last), make(chan command, 8)
	a.s.replies[name] = reply
	a.s.mu.Unlock()
	notice := fields{"notice": "request", "conn": a.name, "request": name, "payload": r.Payload, "headers": r.Headers}
	if deadline, ok := ctx.Deadline(); ok {
		notice["budget_ms"] = max(0, int(time.Until(deadline).Milliseconds()))
	}
	a.s.tell(notice)
	stop := context.AfterFunc(ctx, func() { a.s.tell(fields{"notice": "cancelled", "request": name}) })
	defer stop()
	select {
	case c := <-reply:
		if c.Payload == nil {
			return nil, errors.New(c.Error)
		}
		return c.Payload, nil
	case <-a.over:
		return nil, errUnsupported
	}
}

func (a *attached) HandleBroadcast(m []byte) {
	a.s.tell(fields{"notice": "broadcast", "conn": a.name, "payload": m})
}

func (t topic) HandleEvent(e []byte) {
	t.a.s.tell(fields{"notice": "event", "conn": t.a.name, "topic": t.name, "payload": e})
}

func (a *attached) HandleTunnel(t *iris.Tunnel) {
	own := &tunnel{Tunnel: t, done: make(chan struct{})}
	a.tunnels <- own
	select {
	case <-own.done:
	case <-a.over:
	}
}

func (a *attached) HandleDrop(reason error) {
	a.s.tell(fields{"notice": "dropped", "conn": a.name, "text": reason.Error()})
}

var errUnsupported = errors.New("unsupported")

// errorName is docs/subject.md, Errors.
func errorName(err error) (name, text string) {
	var remote *iris.RemoteError
	if errors.As(err, &remote) {
		return "failed", remote.Message
	}
	if _, refused, is := strings.Cut(err.Error(), iris.ErrRefused.Error()+": "); is {
		code, _, _ := strings.Cut(refused, ":")
		if strings.HasPrefix(code, "code ") { // not listed: relay.md 7.2
			code = "not-ready"
		}
		return code, err.Error()
	}
	for _, e := range []struct {
		err  error
		name string
	}{{errUnsupported, "unsupported"}, {io.EOF, "end"}, {iris.ErrTooLarge, "too-large"}, {iris.ErrTimeout, "timeout"}, {context.DeadlineExceeded, "timeout"}, {context.Canceled, "cancelled"},
		{iris.ErrNoService, "no-service"}, {iris.ErrOverloaded, "overloaded"}, {iris.ErrInvalid, "invalid"}, {iris.ErrProtocol, "protocol"},
		{iris.ErrLost, "lost"}, {iris.ErrNoNode, "no-node"}, {iris.ErrClosed, "closed"}} {
		if errors.Is(err, e.err) {
			return e.name, err.Error()
		}
	}
	return "other", err.Error()
}
