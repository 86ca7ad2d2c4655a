package iris

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// serve is a goroutine that runs handlers, one task after the other, until it is
// not needed any more. Unregister waits for what it runs.
func (s *Service) serve(t *task) {
	defer func() {
		if t == nil {
			return
		}
		// The handler ended the goroutine: another one takes its thread.
		if t = s.work.next(nil); t != nil {
			go s.serve(t)
		}
	}()
	own := make(seat, 1)
	for t != nil {
		s.run(t)
		t = s.work.next(own)
	}
}

// run handles one task and answers it, whatever the handler does.
func (s *Service) run(t *task) {
	r := wire.Reply{ID: t.id, Code: wire.CodeFailed}
	returned := false
	defer func() {
		if !returned {
			r.Text = []byte("the handler panicked")
		}
		s.answer(t, r)
	}()
	ctx, cancel := s.contextOf(t)
	defer cancel()
	if over := s.work.enter(t, cancel); over != "" {
		r.Text, returned = []byte("not executed: "+over), true // nobody waits for it
		return
	}
	guard(s.conn.log, "HandleRequest", func() { r, returned = s.reply(ctx, t), true })
}

// contextOf makes a context for a handler that wants one.
func (s *Service) contextOf(t *task) (context.Context, context.CancelFunc) {
	switch {
	case s.context == nil:
		return nil, func() {}
	case t.expires.IsZero():
		return context.WithCancel(context.Background())
	}
	return context.WithDeadline(context.Background(), t.expires)
}

// reply calls the handler.
func (s *Service) reply(ctx context.Context, t *task) wire.Reply {
	payload, headers, err := s.call(ctx, t)
	if err != nil {
		return wire.Reply{ID: t.id, Code: wire.CodeFailed, Text: wire.Text([]byte(err.Error()))}
	}
	if err = fits(t.session.limits, s.conn.cluster, payload, headers); err != nil {
		s.conn.log.Warn("iris: reply not sent", "cluster", s.conn.cluster, "err", err)
		return wire.Reply{ID: t.id, Code: wire.CodeFailed, Text: fmt.Appendf(nil, "the reply: %v", err)}
	}
	return wire.Reply{ID: t.id, Headers: headers, Payload: payload}
}

func (s *Service) call(ctx context.Context, t *task) (payload []byte, headers wire.Headers, err error) {
	if s.context == nil {
		payload, err = s.handler.HandleRequest(t.request.Payload)
		return payload, nil, err
	}
	t.request.Cluster = s.conn.cluster
	reply, err := s.context.HandleRequestContext(ctx, &t.request)
	if err != nil || reply == nil {
		return nil, nil, err
	}
	headers, err = encodeHeaders(reply.Headers)
	return reply.Payload, headers, err
}

// answer writes the reply. An error that comes when the time is over comes
// late: to the requester it is a timeout, which the node tells by its own clock.
func (s *Service) answer(t *task, r wire.Reply) {
	if r.Code == wire.CodeOK || t.expires.IsZero() || time.Now().Before(t.expires) {
		s.write(t, r)
		return
	}
	s.late.Go(func() { s.writeLate(t, string(r.Text)) })
}

func (s *Service) writeLate(t *task, text string) {
	grace := time.NewTimer(timeoutGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-t.session.ended:
	}
	s.write(t, wire.Reply{ID: t.id, Code: wire.CodeFailed, Text: []byte(text)})
}

// timeoutGrace is how much later than here a deadline may pass at the node.
const timeoutGrace = 100 * time.Millisecond

// write writes the reply, and new credit with it.
func (s *Service) write(t *task, r wire.Reply) {
	n, running := s.work.settle(t)
	// An error is the end of the session, which its reader notices.
	_ = t.session.writeAmong(context.Background(), running, r.Size()+ctlSize, func(b []byte) []byte { return appendAnswer(b, r, n) })
}

// guard calls fn, which is the application's, and survives its panic.
//
//go:noinline
func guard(log *slog.Logger, method string, fn func()) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("iris: a handler panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	fn()
}

// insideHandler tells whether the calling goroutine runs a handler: whether
// guard is on its stack.
func insideHandler() bool {
	entry := reflect.ValueOf(guard).Pointer()
	pcs := make([]uintptr, 64)
	for skip := 0; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		if n == 0 {
			return false
		}
		frames := runtime.CallersFrames(pcs[:n])
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); f.Entry == entry {
				return true
			}
		}
	}
}
