package iris

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	attachTimeout = 10 * time.Second // to dial and be welcomed
	byeTimeout    = time.Second      // to write what is left when a session ends
	minOutput     = 4 << 20          // bytes that may wait to be written
)

// A session is one attachment to the node. One goroutine, the connection's,
// reads it (session_recv.go); anybody writes it.
type session struct {
	out     *wire.Output
	in      *wire.Reader
	limits  wire.Limits
	calls   calls
	tunnels tunnels
	conn    *Connection   // set by install, before anything is read
	settled chan struct{} // closed when the subscriptions of former sessions are effective
	ponged  chan struct{} // capacity 1, filled by the reader
	drained chan struct{} // closed by the reader
	ended   chan struct{} // closed by end
	leaving atomic.Bool

	endOnce     sync.Once
	drainedOnce sync.Once
	pongOwed    atomic.Bool

	gather   gatherer
	late     sync.WaitGroup // of background: frames that found the output full, no more than the limits of what they answer
	lateMu   sync.Mutex     // guards lateOver
	lateOver bool
}

// attach dials the node and says hello. relay.md 2. When ctx ends the error is
// the bare one of ctx.
func attach(ctx context.Context, dial func(context.Context) (net.Conn, error), cluster string) (*session, error) {
	bounded, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	s, err := dialAndGreet(bounded, dial, cluster)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, ctx.Err()
	case bounded.Err() != nil && err != nil:
		return nil, fmt.Errorf("%w: no welcome within %v", ErrNoNode, attachTimeout)
	}
	return s, err
}

func dialAndGreet(ctx context.Context, dial func(context.Context) (net.Conn, error), cluster string) (*session, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoNode, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // unblocks what follows
	s, err := greet(conn, cluster)
	if bye := byeFor(err); bye != nil {
		_, _ = conn.Write(bye) // err is what there is to tell
	}
	if !stop() {
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func greet(conn net.Conn, cluster string) (*session, error) {
	hello := wire.AppendHello(nil, wire.Hello{Min: wire.Version, Max: wire.Version, Cluster: []byte(cluster)})
	if _, err := conn.Write(hello); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoNode, err)
	}
	in := wire.NewReader(conn, wire.HandshakeFrame)
	content, err := in.Next()
	if err != nil {
		return nil, lossReason(err)
	}
	op, err := wire.ParseOp(content)
	if err != nil {
		return nil, lossReason(err)
	}
	switch op {
	case wire.OpWelcome:
		welcome, err := parseWelcome(content)
		if err != nil {
			return nil, lossReason(err)
		}
		return newSession(conn, in, welcome), nil
	case wire.OpRefuse:
		code, text, err := wire.ParseRefuse(content)
		if err != nil {
			return nil, lossReason(err)
		}
		return nil, &RefusedError{Reason: code.AsReason().String(), Message: text, code: code.AsReason()}
	}
	return nil, lossReason(unexpected("it answered a hello with " + op.String()))
}

// parseWelcome reads a welcome and checks that it is one to this client's hello.
// relay.md 2.6.
func parseWelcome(content []byte) (wire.Welcome, error) {
	w, err := wire.ParseWelcome(content)
	if err != nil {
		return w, err
	}
	malformed := func(text string) error { return &wire.Error{Code: wire.CodeMalformed, Clause: "2.6", Text: text} }
	switch {
	case w.Version != wire.Version:
		return w, malformed(fmt.Sprintf("it speaks version %d", w.Version))
	case len(w.Features) > 0:
		return w, malformed("it offers a feature that was not asked for")
	}
	if err := w.Limits.Validate(); err != nil {
		return w, malformed(err.Error())
	}
	return w, nil
}

// A RefusedError is the node's answer to a program that it does not let attach. It
// is an ErrRefused.
type RefusedError struct {
	Reason  string // name of the code, relay.md 7.1, such as "limit" or "name"
	Message string // of the node, for people

	code wire.Code
}

// Error tells the node's reason.
func (r *RefusedError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrRefused, r.Reason, r.Message)
}

// Unwrap makes it an ErrRefused.
func (r *RefusedError) Unwrap() error { return ErrRefused }

// passing tells whether the same hello may be welcome later. relay.md 2.7, 7.2.
func (r *RefusedError) passing() bool {
	return r.code == wire.CodeLimit || r.code == wire.CodeNotReady
}

func newSession(conn net.Conn, in *wire.Reader, w wire.Welcome) *session {
	in.SetLimit(w.Limits.Frame)
	return &session{
		// Twice a frame, so that there is room for one when half is free.
		out:     wire.NewOutput(conn, max(minOutput, 2*int(min(w.Limits.Frame, 1<<30)))),
		in:      in,
		limits:  w.Limits,
		calls:   calls{limit: int(min(w.Limits.Requests, maxPlaces))},
		settled: make(chan struct{}),
		ponged:  make(chan struct{}, 1),
		drained: make(chan struct{}),
		ended:   make(chan struct{}),
		gather:  gatherer{epoch: time.Now()},
	}
}

// write appends what add appends, at most size bytes, and writes it. A full
// output makes the caller wait. errNotSent: the session has ended.
func (s *session) write(ctx context.Context, size int, add func([]byte) []byte) error {
	return s.writeAmong(ctx, 1, size, add)
}

// writeAmong is write for one of several goroutines that are likely to write
// soon: as many as writers says.
func (s *session) writeAmong(ctx context.Context, writers, size int, add func([]byte) []byte) error {
	b, err := s.begin(ctx, size)
	if err != nil {
		return err
	}
	s.out.Commit(add(b))
	s.gather.flush(s.out, writers)
	return nil
}

// begin locks the output to append at most size bytes, as its Begin does. A full
// one makes the caller wait. errNotSent: the session has ended.
func (s *session) begin(ctx context.Context, size int) ([]byte, error) {
	for {
		b, err := s.out.Begin(size)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, wire.ErrFull) {
			return nil, errNotSent
		}
		if err := s.out.AwaitRoom(ctx); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// command writes what add appends under an id, and waits for how the node says it
// ended. errNotSent: the session has ended.
func (s *session) command(ctx context.Context, size int, add func(b []byte, id uint64) []byte) (ending, error) {
	c := s.calls.borrow()
	defer s.calls.release(c)
	id, err := s.calls.add(ctx, c)
	if err != nil {
		return ending{}, err
	}
	if err := s.write(ctx, size, func(b []byte) []byte { return add(b, id) }); err != nil {
		s.calls.withdraw(id, c)
		return ending{}, err
	}
	return s.outcome(ctx, c, id)
}

// commandLate is command for one that is to be sent even if ctx ends; sent is
// called when it is, or never will be.
func (s *session) commandLate(ctx context.Context, size int, add func(b []byte, id uint64) []byte, sent func()) (ending, error) {
	c := s.calls.borrow()
	defer s.calls.release(c)
	id, err := s.calls.add(context.Background(), c) // waits for other commands only
	if err != nil {
		sent()
		return ending{}, err
	}
	s.writeLate(size, func(b []byte) []byte { return add(b, id) }, sent)
	return s.outcome(ctx, c, id)
}

// outcome waits for the ending of a call that was sent, until ctx ends.
func (s *session) outcome(ctx context.Context, c *call, id uint64) (ending, error) {
	select {
	case <-c.done:
		return c.ending, c.err
	case <-ctx.Done():
	}
	if !s.calls.abandon(id) {
		<-c.done // the ending came first
		return c.ending, c.err
	}
	return ending{}, ctx.Err()
}

// confirm waits until the node has handled what was written before: it answers
// pings in their order. The end of the session is no error here. The error is the
// bare one of ctx.
func (s *session) confirm(ctx context.Context) error {
	if err := s.write(ctx, ctlSize, func(b []byte) []byte { return wire.AppendPing(b, 0) }); err != nil {
		return ctx.Err()
	}
	select {
	case <-s.ponged:
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// say is writeLate for a frame whose fate is nobody's concern.
func (s *session) say(size int, add func([]byte) []byte) { s.writeLate(size, add, func() {}) }

// writeLate is write for those that must not wait, such as the reader: when the
// output is full a goroutine of the session waits instead. done is called when
// the frame is written, or never will be.
func (s *session) writeLate(size int, add func([]byte) []byte, done func()) {
	b, err := s.out.Begin(size)
	if err == nil {
		s.out.Commit(add(b))
		s.out.Flush()
	}
	if !errors.Is(err, wire.ErrFull) {
		done()
		return
	}
	started := s.background(func() {
		_ = s.write(context.Background(), size, add) // ends with the session
		done()
	})
	if !started {
		done()
	}
}

// background runs fn, which ends with the session, in a goroutine that the
// connection waits for. False: the session is over.
func (s *session) background(fn func()) bool {
	s.lateMu.Lock()
	defer s.lateMu.Unlock()
	if s.lateOver {
		return false
	}
	s.late.Go(fn)
	return true
}

// awaitLate waits for what background started; there is no more of it afterwards.
func (s *session) awaitLate() {
	s.lateMu.Lock()
	s.lateOver = true
	s.lateMu.Unlock()
	s.late.Wait()
}

// endBroken ends a session that does not take frames any more: errNotSent.
func (s *session) endBroken() { s.end(fmt.Errorf("%w: %w", ErrLost, ErrNoNode), nil) }

// end ends the session: calls in flight and tunnels fail with reason, and the connection is
// closed, after a bye if there is one. Idempotent; waits until it is closed.
func (s *session) end(reason error, bye []byte) {
	s.endOnce.Do(func() {
		defer close(s.ended)
		s.leaving.Store(true)
		s.conn.retire(s)
		s.calls.end(reason)
		s.tunnels.end(reason)
		ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
		defer cancel()
		if bye == nil {
			cancel()
		} else if b, err := s.out.Begin(len(bye)); err == nil {
			s.out.Commit(append(b, bye...))
		}
		_ = s.out.Close(ctx) // a broken connection is what ends most sessions
	})
	<-s.ended
}
