package iris

import (
	"context"
	"io"
	"slices"

	"github.com/project-iris/iris/spec/wire"
)

// Recv returns the next message, which is the caller's. What was received before
// the tunnel ended comes first; then the error is io.EOF if the other side has
// finished, ErrClosed if either side closed the tunnel, a RemoteError after an
// abort with a reason, io.ErrUnexpectedEOF if the other side broke the protocol by
// finishing within a message, ErrLost, ErrTimeout or ErrCancelled. A message of several
// chunks is held as far as it has come, also when ctx ends: the next Recv goes on.
func (t *Tunnel) Recv(ctx context.Context) ([]byte, error) {
	message, err := t.recv(ctx)
	if err != nil && err != io.EOF {
		return nil, t.wrap("receive", err)
	}
	return message, err
}

func (t *Tunnel) recv(ctx context.Context) ([]byte, error) {
	if err := t.takeReceiving(ctx); err != nil {
		return nil, err
	}
	defer t.leaveReceiving()
	for {
		t.mu.Lock()
		if len(t.queue) > 0 && !t.closing {
			message, whole, grant := t.popLocked()
			t.mu.Unlock()
			t.grant(grant)
			if whole {
				return message, nil
			}
			continue
		}
		err := t.recvErrLocked()
		changed := t.receivable.await()
		t.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// takeReceiving waits for the right to receive.
func (t *Tunnel) takeReceiving(ctx context.Context) error {
	for {
		t.mu.Lock()
		if !t.receiving {
			t.receiving = true
			t.mu.Unlock()
			return nil
		}
		changed := t.receivable.await()
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *Tunnel) leaveReceiving() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.receiving = false
	t.receivable.ring()
}

// recvErrLocked is why nothing more comes, nil if something may.
func (t *Tunnel) recvErrLocked() error {
	switch {
	case t.closing:
		return errFinished
	case t.remoteDone:
		return io.EOF
	}
	return t.err
}

// popLocked takes a chunk; the message, when it is whole; and what to grant.
func (t *Tunnel) popLocked() (message []byte, whole bool, grant uint32) {
	d := t.queue[0]
	t.queue[0] = wire.Data{}
	if t.queue = t.queue[1:]; len(t.queue) == 0 {
		t.queue = nil
	}
	grant = t.consumeLocked(d.Cost())
	if d.Last && len(t.parts) == 0 {
		return d.Payload, true, grant
	}
	t.parts = append(t.parts, d.Payload)
	if d.Last {
		message = slices.Concat(t.parts...)
		t.parts = nil
	}
	return message, d.Last, grant
}

// consumeLocked returns what to grant for bytes that were taken: in batches of
// half a window and, once the other side has finished, at once, so that it knows
// that everything was taken.
func (t *Tunnel) consumeLocked(n int) uint32 {
	t.consumed += uint32(n)
	if t.over || t.consumed < tunnelWindow/2 && !t.remoteDone {
		return 0
	}
	grant := t.consumed
	t.consumed = 0
	t.granted += grant
	return grant
}

// grant tells the other side, without waiting.
func (t *Tunnel) grant(n uint32) {
	if n > 0 {
		t.session.say(ctlSize, func(b []byte) []byte { return wire.AppendAllow(b, t.id, n) })
	}
}

// discard forgets what was received and is not taken, and what comes.
func (t *Tunnel) discard() {
	t.mu.Lock()
	n := 0
	for _, d := range t.queue {
		n += d.Cost()
	}
	t.closing = true
	t.discarded = t.discarded || n > 0 && !t.remoteDone
	t.queue, t.parts = nil, nil
	grant := t.consumeLocked(n)
	t.receivable.ring()
	t.mu.Unlock()
	t.grant(grant)
}

// data queues a chunk, or discards it. Only the reader calls it.
func (t *Tunnel) data(d wire.Data) error {
	t.mu.Lock()
	if t.remoteDone || !t.openedOnce || uint64(d.Cost()) > uint64(t.granted) {
		t.mu.Unlock()
		return unexpected("data of a tunnel beyond what was allowed")
	}
	t.granted -= uint32(d.Cost())
	t.within = !d.Last
	var grant uint32
	if t.closing {
		t.discarded = true
		grant = t.consumeLocked(d.Cost())
	} else {
		t.queue = append(t.queue, wire.Data{Last: d.Last, Payload: slices.Clone(d.Payload)})
		t.receivable.ring()
	}
	unwanted := t.unwantedLocked()
	t.mu.Unlock()
	if unwanted {
		t.abort(wire.CodeOK, "")
		return nil
	}
	t.grant(grant)
	return nil
}

// remoteFinish: nothing more comes. What was taken is granted so that the other
// side knows. A finish within a message breaks it off: relay.md 10.6.
func (t *Tunnel) remoteFinish() error {
	t.mu.Lock()
	switch {
	case t.remoteDone:
		t.mu.Unlock()
		return unexpected("a tunnel is finished twice")
	case t.within:
		t.mu.Unlock()
		t.abortFor(errBroken, wire.CodeFailed, "a finish in the middle of a message")
		return nil
	}
	t.remoteDone = true
	grant := t.consumeLocked(0)
	t.receivable.ring()
	t.mu.Unlock()
	t.grant(grant)
	t.endIfDone()
	return nil
}
