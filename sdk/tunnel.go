package iris

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	tunnelWindow = 1 << 20          // bytes that the other side may send ahead
	closeTimeout = 10 * time.Second // bounds Close
)

// A Tunnel is an ordered stream of messages, both ways, between this program and
// one member of a cluster. A message may be of any size: it travels in chunks, and
// only as fast as the other side receives. Safe for concurrent use; messages
// that are sent at the same time do not mix.
//
// What was received is always a prefix of what was sent. A tunnel that breaks off
// is an error on both sides: a RemoteError of the reason where the other program
// aborted it.
type Tunnel struct {
	session *session
	id      uint64
	name    string       // for errors
	headers wire.Headers // of the open, or set by the opened

	mu   sync.Mutex // guards the fields below
	err  error      // why it broke off; nil: it did not
	over bool       // both sides have finished, or err is set

	sending   bool // somebody has the right to send
	finished  bool // nothing more is sent
	window    uint32
	allowance uint32 // bytes that may be sent
	sendable  bell

	receiving   bool // somebody has the right to receive
	remoteDone  bool // nothing more comes
	closing     bool // what comes is discarded
	discarded   bool // something was
	within      bool // the last chunk that came was not the last of its message
	granted     uint32
	consumed    uint32 // not granted again yet
	queue       []wire.Data
	parts       [][]byte // of a message that Recv has begun
	receivable  bell
	openedOnce  bool
	openOutcome bell
}

// A bell wakes those who wait for a change. It belongs to a mutex.
type bell struct{ waiting chan struct{} }

func (b *bell) await() <-chan struct{} {
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

// Tunnel opens a tunnel to one member of cluster and returns when that has
// accepted it. The end of ctx means nothing to the tunnel that it returned.
// WithHeaders tells the member more of what it is for. The errors are those of a
// request, and ErrClosed if the member refused without a reason.
func (c *Connection) Tunnel(ctx context.Context, cluster string, opts ...MessageOption) (*Tunnel, error) {
	attempt := fmt.Sprintf("tunnel to %q", cluster)
	headers, err := headersOf(opts)
	if err != nil {
		return nil, wrap(attempt, err)
	}
	for {
		s, err := c.await(ctx)
		if err == nil {
			err = fits(s.limits, cluster, nil, headers)
		}
		var t *Tunnel
		if err == nil {
			t, err = s.openTunnel(ctx, cluster, attempt, headers)
		}
		var refused *abortion
		switch {
		case err == nil:
			return t, nil
		case err == errNotSent:
			s.endBroken()
		case errors.As(err, &refused):
			if refused.code != wire.CodeClosing || !s.leaving.Load() {
				return nil, refused.outcome(attempt)
			}
		default:
			return nil, wrap(attempt, err)
		}
	}
}

// openTunnel asks for a tunnel and waits for the outcome.
func (s *session) openTunnel(ctx context.Context, cluster, name string, headers wire.Headers) (*Tunnel, error) {
	ms, err := budget(ctx)
	if err != nil {
		return nil, err
	}
	t := &Tunnel{session: s, name: name, granted: tunnelWindow}
	if err := s.tunnels.add(t); err != nil {
		return nil, err
	}
	o := wire.Open{ID: t.id, Cluster: []byte(cluster), Budget: ms, Window: tunnelWindow, Headers: headers}
	if err := s.write(ctx, o.Size(), func(b []byte) []byte { return wire.AppendOpen(b, o) }); err != nil {
		s.tunnels.remove(t.id)
		return nil, err
	}
	for {
		t.mu.Lock()
		opened, err, changed := t.openedOnce, t.err, t.openOutcome.await()
		t.mu.Unlock()
		if opened { // and maybe broken off since
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.abort(wire.CodeCancelled, "")
			return nil, ctx.Err()
		}
	}
}

// Headers are those that the other side sent when it opened the tunnel or accepted
// it; nil for none. The map is the caller's.
func (t *Tunnel) Headers() map[string]string { return decodeHeaders(t.headers) }

// Close ends the tunnel in good order: what was sent is delivered, and what still
// comes is discarded. It returns when the other side has finished too, or has
// taken everything and goes on sending nevertheless: then its next Send fails
// with ErrClosed. After 10 seconds the tunnel is aborted and the error is
// ErrTimeout; that of a tunnel that broke off says why. Idempotent.
func (t *Tunnel) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	t.discard()
	err := t.finish(ctx)
	for err == nil {
		t.mu.Lock()
		over, broken, changed := t.over, t.err, t.receivable.await()
		t.mu.Unlock()
		if over {
			err = broken
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == context.DeadlineExceeded {
		t.abort(wire.CodeTimeout, "the other side did not finish in time")
	}
	if err == nil || err == errOwnEnd {
		return nil
	}
	return t.wrap("close", err)
}

// CloseSend tells the other side that nothing more is sent: its Recv returns
// io.EOF after what was sent before. Receiving goes on. It waits for a Send that
// runs. Idempotent.
func (t *Tunnel) CloseSend() error {
	if err := t.finish(context.Background()); err != nil && err != errOwnEnd {
		return t.wrap("close send", err)
	}
	return nil
}

// Abort breaks the tunnel off at once, on both sides; what is on its way may be
// lost. The other side gets a RemoteError of reason or, if that is empty,
// ErrClosed. Idempotent; the error is nil.
func (t *Tunnel) Abort(reason string) error {
	code := wire.CodeOK
	if reason != "" {
		code = wire.CodeFailed
	}
	t.abort(code, reason)
	return nil
}

// errOwnEnd is the end of a tunnel that this side broke off.
var errOwnEnd = fmt.Errorf("%w: this side ended the tunnel", ErrClosed)

// errOtherEnd: the other side broke the tunnel off without a reason.
var errOtherEnd = fmt.Errorf("%w: the other side ended the tunnel", ErrClosed)

// errBroken: the other side finished and left a message without its end. relay.md 10.6.
var errBroken = fmt.Errorf("%w: the other side finished in the middle of a message", io.ErrUnexpectedEOF)

// errFinished: Send after CloseSend or Close.
var errFinished = fmt.Errorf("%w: this side has finished", ErrClosed)

// An abortion is the other side's or the node's end of a tunnel.
type abortion struct {
	code wire.Code
	text string
}

// Error is for us only: outcome types it.
func (a *abortion) Error() string { return fmt.Sprintf("aborted as %s: %s", a.code, a.text) }

// outcome types it. relay.md 10.7.
func (a *abortion) outcome(attempt string) error {
	switch a.code {
	case wire.CodeOK:
		return wrap(attempt, errOtherEnd)
	case wire.CodeFailed:
		return wrap(attempt, &RemoteError{Message: a.text, aborted: true})
	}
	return outcome(attempt, a.code, a.text)
}

// wrap tells what was attempted, except where the tunnel was aborted, whatever it was.
func (t *Tunnel) wrap(verb string, err error) error {
	if a, ok := err.(*abortion); ok {
		return a.outcome(t.name)
	}
	return wrap(t.name+": "+verb, err)
}

// abort ends the tunnel at once and tells the other side.
func (t *Tunnel) abort(code wire.Code, text string) { t.abortFor(errOwnEnd, code, text) }

// abortFor is abort for a reason of its own, which this side gets.
func (t *Tunnel) abortFor(err error, code wire.Code, text string) {
	if t.fail(err) {
		s := t.session
		mended := wire.Text([]byte(text))
		s.say(len(mended)+ctlSize, func(b []byte) []byte { return wire.AppendAbort(b, t.id, code, string(mended)) })
	}
}

// fail ends the tunnel for a reason; false if it has ended before.
func (t *Tunnel) fail(err error) bool {
	t.session.tunnels.remove(t.id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.err, t.over = err, true
	if err == errOwnEnd {
		t.queue, t.parts = nil, nil
	}
	t.ringLocked()
	return true
}

func (t *Tunnel) ringLocked() {
	t.sendable.ring()
	t.receivable.ring()
	t.openOutcome.ring()
}

// endIfDone ends the tunnel when both sides have finished. relay.md 10.6.
func (t *Tunnel) endIfDone() {
	t.mu.Lock()
	done := t.finished && t.remoteDone
	if done {
		t.over = true
		t.ringLocked()
	}
	t.mu.Unlock()
	if done {
		t.session.tunnels.remove(t.id)
	}
}
