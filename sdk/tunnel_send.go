package iris

import (
	"context"

	"github.com/project-iris/iris/spec/wire"
)

// Send sends a message, which is not kept, and returns when it is handed to the
// node. It waits while the other side does not receive. When ctx ends before
// anything was sent, nothing was; when it ends in the middle of a message of
// several chunks the tunnel is aborted, for the rest cannot be left out.
//
// The error is ErrClosed after the other side has closed the tunnel or this side
// has finished, a RemoteError after an abort with a reason, ErrLost, ErrTimeout
// or ErrCancelled.
func (t *Tunnel) Send(ctx context.Context, message []byte) error {
	if err := t.send(ctx, message); err != nil {
		return t.wrap("send", err)
	}
	return nil
}

func (t *Tunnel) send(ctx context.Context, message []byte) error {
	if err := t.takeSending(ctx); err != nil {
		return err
	}
	defer t.leaveSending()
	for begun := false; ; begun = true {
		n, err := t.allot(ctx, len(message))
		d := wire.Data{ID: t.id, Last: n == len(message), Payload: message[:n]}
		if err == nil {
			if err = t.session.post(ctx, d.Size(), func(b []byte) []byte { return wire.AppendData(b, d) }); err != nil {
				t.refund(d.Cost())
			}
		}
		switch {
		case err == errNotSent:
			t.fail(ErrLost)
			return ErrLost
		case err != nil && begun && err == ctx.Err():
			t.abort(wire.CodeCancelled, "the sender gave up in the middle of a message")
			return err
		case err != nil || d.Last:
			return err
		}
		message = message[n:]
	}
}

// takeSending waits for the right to send.
func (t *Tunnel) takeSending(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.mu.Lock()
		err := t.sendErrLocked()
		if err != nil || !t.sending {
			t.sending = t.sending || err == nil
			t.mu.Unlock()
			return err
		}
		changed := t.sendable.await()
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (t *Tunnel) leaveSending() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sending = false
	t.sendable.ring()
}

func (t *Tunnel) sendErrLocked() error {
	if t.err == nil && t.finished {
		return errFinished
	}
	return t.err
}

// allot takes leave to send the next of left bytes and returns how many: a whole
// chunk or, where the other side's window is small, what there is.
func (t *Tunnel) allot(ctx context.Context, left int) (int, error) {
	want := min(left, int(min(t.session.limits.Chunk, 1<<30)))
	for {
		t.mu.Lock()
		if err := t.sendErrLocked(); err != nil {
			t.mu.Unlock()
			return 0, err
		}
		enough := min(want+wire.DataOverhead, max(int(t.window)/4, wire.DataOverhead+1))
		if int(t.allowance) >= enough {
			n := min(want, int(t.allowance)-wire.DataOverhead)
			t.allowance -= uint32(n + wire.DataOverhead)
			t.mu.Unlock()
			return n, nil
		}
		changed := t.sendable.await()
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// refund gives back what allot took and was not sent.
func (t *Tunnel) refund(cost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.allowance += uint32(cost)
}

// finish tells the other side, after what is being sent, that nothing more comes.
func (t *Tunnel) finish(ctx context.Context) error {
	switch err := t.takeSending(ctx); {
	case err == errFinished:
		return nil
	case err != nil:
		return err
	}
	defer t.leaveSending()
	if err := t.session.write(ctx, ctlSize, func(b []byte) []byte { return wire.AppendFinish(b, t.id) }); err != nil {
		if err == errNotSent {
			t.fail(ErrLost)
			err = ErrLost
		}
		return err
	}
	t.mu.Lock()
	t.finished = true
	t.mu.Unlock()
	t.endIfDone()
	return nil
}

// allow is what the other side lets this one send. relay.md 10.5.
func (t *Tunnel) allow(n uint32) error {
	t.mu.Lock()
	var err error
	t.allowance, err = wire.AddAllowance(t.allowance, n)
	t.sendable.ring()
	unwanted := t.unwantedLocked()
	t.mu.Unlock()
	if unwanted {
		t.abort(wire.CodeOK, "")
	}
	return err
}

// unwantedLocked: this side has closed the tunnel, the other one has taken
// everything, and goes on sending.
func (t *Tunnel) unwantedLocked() bool {
	return t.closing && t.finished && t.discarded && t.allowance >= t.window && !t.over
}
