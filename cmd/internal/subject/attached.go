package subject

import (
	"context"
	"errors"
	"fmt"
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
	given   chan *tunnel  // that nobody has taken yet
	over    chan struct{} // closed by end
	end     func() error
}

// A tunnel is open; the handler of a service's one runs until done.
type tunnel struct {
	*iris.Tunnel
	done func()
}

func (s *subject) attach(ctx context.Context, c command) (err error) {
	a := &attached{s: s, name: c.Conn, given: make(chan *tunnel, 1<<14), over: make(chan struct{})}
	var opts []iris.Option
	if c.Reconnect != nil {
		opts = append(opts, iris.WithReconnect(time.Duration(*c.Reconnect)*time.Millisecond))
	}
	if c.Op == "register" {
		l := &iris.ServiceLimits{RequestThreads: c.Limits.Requests, RequestQueue: c.Limits.Queue, TunnelThreads: c.Limits.Tunnels}
		if l.RequestThreads > 0 && l.RequestQueue == 0 {
			l.RequestQueue = -1
		}
		a.end = sync.OnceValue(func() error { close(a.over); a.service.Abort(); return nil })
		a.service, err = iris.RegisterContext(ctx, c.Port, c.Cluster, a, l, opts...)
		return err
	}
	if a.conn, err = iris.ConnectContext(ctx, c.Port, opts...); err == nil {
		a.end = a.conn.Close
		s.conns.Store(a.name, a)
		go a.watch()
	}
	return err
}

// watch tells when the node was given up.
func (a *attached) watch() {
	<-a.conn.Done()
	if err := a.conn.Err(); errors.Is(err, iris.ErrNoNode) {
		a.HandleDrop(err)
	}
}

func (s *subject) do(ctx context.Context, c command) (fields, error) {
	value, _ := s.conns.Load(c.Conn)
	a, _ := value.(*attached)
	value, _ = s.tunnels.Load(c.Tunnel)
	t, _ := value.(*tunnel)
	switch c.Op {
	case "info":
		return fields{"name": "iris", "version": "0.1.0", "language": "go", "protocol": []int{1}, "features": []string{"request", "service", "broadcast", "topic",
			"tunnel", "headers", "message-headers", "tunnel-headers", "reconnect", "drain", "limits", "cancel"}}, nil
	case "connect", "register":
		return fields{}, s.attach(ctx, c)
	case "cancel":
		if cancel, known := s.cancels.Load(c.Command); known {
			cancel.(context.CancelFunc)()
		}
		return fields{}, nil
	case "reply":
		if reply, known := s.replies.LoadAndDelete(c.Request); known {
			reply.(chan command) <- c
		}
		return fields{}, nil
	case "tunnel-send", "tunnel-recv", "tunnel-close":
		if t == nil {
			return nil, fmt.Errorf("there is no tunnel %q", c.Tunnel)
		}
		return t.do(ctx, c)
	}
	if a == nil {
		return nil, errUnsupported
	}
	return a.do(ctx, c)
}

func (a *attached) do(ctx context.Context, c command) (fields, error) {
	headers := iris.WithHeaders(c.Headers)
	switch c.Op {
	case "request":
		r, err := a.conn.Call(ctx, &iris.Request{Cluster: c.Cluster, Payload: c.Payload, Headers: c.Headers})
		if err != nil {
			return nil, err
		}
		return fields{"payload": r.Payload, "headers": r.Headers}, nil
	case "broadcast":
		return fields{}, a.conn.Broadcast(ctx, c.Cluster, c.Payload, headers)
	case "publish":
		return fields{}, a.conn.Publish(ctx, c.Topic, c.Payload, headers)
	case "subscribe":
		return fields{}, a.conn.Subscribe(ctx, c.Topic, topic{a, c.Topic}, nil)
	case "unsubscribe":
		return fields{}, a.conn.Unsubscribe(ctx, c.Topic)
	case "tunnel-open":
		t, err := a.conn.Tunnel(ctx, c.Cluster, headers)
		if err != nil {
			return nil, err
		}
		a.s.tunnels.Store(c.Tunnel, &tunnel{t, func() {}})
		return fields{"headers": t.Headers()}, nil
	case "tunnel-accept":
		select {
		case t := <-a.given:
			a.s.tunnels.Store(c.Tunnel, t)
			return fields{"headers": t.Headers()}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "drain":
		if a.service != nil {
			return fields{}, a.service.Shutdown(ctx)
		}
	case "close":
		return fields{}, a.end()
	}
	return nil, errUnsupported
}

func (t *tunnel) do(ctx context.Context, c command) (fields, error) {
	switch {
	case c.Op == "tunnel-send":
		return fields{}, t.Send(ctx, c.Payload)
	case c.Op == "tunnel-recv":
		payload, err := t.Recv(ctx)
		return fields{"payload": payload}, err
	case c.How == "finish":
		return fields{}, t.CloseSend()
	}
	defer t.done()
	if c.How == "abort" {
		return fields{}, t.Abort(c.Reason)
	}
	return fields{}, t.Close()
}
