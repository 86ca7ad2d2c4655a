package iris

import (
	"context"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/project-iris/iris/spec/wire"
)

// A Request is what one member of a cluster is asked.
type Request struct {
	Cluster string            // name of the cluster, not empty
	Payload []byte            // may be empty
	Headers map[string]string // travel with the request, such as a trace context; at most 64
}

// A Reply is a service's answer.
type Reply struct {
	Payload []byte            // may be empty
	Headers map[string]string // nil: none
}

// Request asks one member of cluster and returns its reply; payload is not kept.
// A deadline of ctx travels with the request; when it passes, the error is
// ErrTimeout. When ctx is cancelled, so is the request. The errors are those of
// the package comment's list of outcomes.
func (c *Connection) Request(ctx context.Context, cluster string, payload []byte) ([]byte, error) {
	reply, err := c.request(ctx, cluster, payload, nil)
	return reply.Payload, err
}

// Call is Request with headers, both ways. request is not kept.
func (c *Connection) Call(ctx context.Context, request *Request) (*Reply, error) {
	headers, err := encodeHeaders(request.Headers)
	if err != nil {
		return nil, wrap(fmt.Sprintf("request to %q", request.Cluster), err)
	}
	reply, err := c.request(ctx, request.Cluster, request.Payload, headers)
	if err != nil {
		return nil, err
	}
	return &reply, nil
}

// request makes one request, on a further session if the first one provably did
// not take it.
func (c *Connection) request(ctx context.Context, cluster string, payload []byte, headers wire.Headers) (Reply, error) {
	for {
		var e ending
		s, err := c.await(ctx)
		if err == nil {
			err = fits(s.limits, cluster, payload, headers)
		}
		if err == nil {
			e, err = s.exchange(ctx, cluster, payload, headers)
		}
		switch {
		case err == nil && e.code == wire.CodeOK:
			return e.Reply, nil
		case err == errNotSent: // the connection broke
			s.endBroken()
		case err == nil && e.code == wire.CodeClosing && s.leaving.Load():
		default:
			return Reply{}, failed(fmt.Sprintf("request to %q", cluster), e, err)
		}
		// Again: await waits, for s takes no more requests.
	}
}

// failed types the end of an attempt that did not succeed.
func failed(attempt string, e ending, err error) error {
	if err == nil {
		return outcome(attempt, e.code, e.text)
	}
	return wrap(attempt, err)
}

// fits checks a message against the limits of the node, before anything is sent.
func fits(l wire.Limits, name string, payload []byte, headers wire.Headers) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrInvalid)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name is not UTF-8", ErrInvalid)
	case uint64(len(name)) > l.Name:
		return fmt.Errorf("%w: a name of %d bytes, the limit is %d", ErrTooLarge, len(name), l.Name)
	case uint64(len(payload)) > l.Payload:
		return fmt.Errorf("%w: a payload of %d bytes, the limit is %d", ErrTooLarge, len(payload), l.Payload)
	case uint64(len(headers)) > l.Headers:
		return fmt.Errorf("%w: headers of %d bytes, the limit is %d", ErrTooLarge, len(headers), l.Headers)
	}
	return nil
}

// exchange sends a request and waits for its ending.
func (s *session) exchange(ctx context.Context, cluster string, payload []byte, headers wire.Headers) (ending, error) {
	c := s.calls.borrow()
	defer s.calls.release(c)
	id, err := s.calls.add(ctx, c)
	if err != nil {
		return ending{}, err
	}
	r := wire.Request{ID: id, Cluster: []byte(cluster), Headers: headers, Payload: payload}
	if err := s.writeRequest(ctx, r); err != nil {
		s.calls.withdraw(id, c)
		return ending{}, err
	}
	e, err := s.outcome(ctx, c, id)
	if err != nil && err == ctx.Err() {
		// The node is told even when the deadline passed: it may not have seen it yet.
		s.say(ctlSize, func(b []byte) []byte { return wire.AppendCancel(b, id) })
	}
	return e, err
}

// writeRequest is write with the budget taken as late as possible.
func (s *session) writeRequest(ctx context.Context, r wire.Request) error {
	r.Budget = wire.NoDeadline // none has a greater size
	b, err := s.begin(ctx, r.Size())
	if err != nil {
		return err
	}
	if r.Budget, err = budget(ctx); err != nil {
		s.out.Commit(b) // nothing
		return err
	}
	s.out.Commit(wire.AppendRequest(b, r))
	s.gather.flush(s.out, int(s.calls.used.Load()))
	return nil
}

// budget is what is left of ctx's deadline in milliseconds, rounded up.
func budget(ctx context.Context) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return wire.NoDeadline, nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return 0, context.DeadlineExceeded
	}
	ms := (left + time.Millisecond - 1) / time.Millisecond
	return uint32(min(ms, math.MaxUint32-1)), nil
}
