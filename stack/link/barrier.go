package link

import (
	"context"
	"fmt"
	"math"
	"sync"
)

// What stands in place of a length on a lane and has no message after it.
const (
	markLength = math.MaxUint32     // of a barrier: to be echoed
	echoLength = math.MaxUint32 - 1 // answers the marks of a round
)

// maxEchoes is how many echoes may wait in a lane, whatever else does. One would
// do, if a lane knew at once that the peer has got it. There is no need to bound
// marks, of which only one is on its way.
const maxEchoes = 16

// A barrier is where a link is with its rounds of marks and echoes.
type barrier struct {
	round chan struct{} // holds one while a round that this node began is under way

	mu     sync.Mutex    // guards the fields below
	done   chan struct{} // of that round; closed when every echo is here; nil outside
	echoed tally         // lanes that the peer has echoed that round on
	marked tally         // lanes that the peer has sent its round's mark on
}

// A tally notes which lanes something has come on.
type tally struct {
	seen  [lanes]bool
	count int
}

// add notes a lane and tells whether all are complete, which begins anew. ok is
// false if that lane was noted already.
func (y *tally) add(lane int) (complete, ok bool) {
	if y.seen[lane] {
		return false, false
	}
	y.seen[lane] = true
	if y.count++; y.count == lanes {
		*y = tally{}
		return true, true
	}
	return false, true
}

// Sync is a barrier on every lane. It returns nil when everything that this node
// had sent on its lanes before the call has been handled by the peer, and
// everything that the peer had sent on its lanes until then has been handled here:
// Handler.Message has returned. What the peer's Message answered is among it.
// One round is under way at a time; further callers wait for theirs. The error
// is that of ctx, or says why the link ended. Message may not call it.
func (c *Conn) Sync(ctx context.Context) error {
	ended := c.quic.Context().Done()
	select {
	case c.barrier.round <- struct{}{}:
	case <-ended:
		return causeOf(c.quic)
	case <-ctx.Done():
		return ctx.Err()
	}
	done := c.barrier.begin()
	if err := c.markLanes(markLength); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ended:
		return causeOf(c.quic)
	case <-ctx.Done():
		return ctx.Err() // the round stays under way
	}
}

func (b *barrier) begin() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = make(chan struct{})
	return b.done
}

// markLanes appends a mark or an echo to every lane.
func (c *Conn) markLanes(length uint32) error {
	for _, lane := range c.lanes {
		if err := lane.mark(length); err != nil {
			return err
		}
	}
	for _, lane := range c.lanes {
		lane.Flush()
	}
	return nil
}

// passed handles a mark or an echo that came on a lane. Whatever came before it
// on that lane has been handled. An error means that the peer broke the rules.
func (c *Conn) passed(lane int, length uint32) error {
	switch length {
	case certificateLength:
		return fmt.Errorf("certificate on lane %d", lane)
	case echoLength:
		return c.barrier.echo(lane)
	}
	complete, err := c.barrier.mark(lane)
	if err != nil || !complete {
		return err
	}
	if err := c.markLanes(echoLength); err == ErrFull {
		return fmt.Errorf("more than %d rounds at once", maxEchoes)
	}
	return nil // or the link has ended
}

// mark notes the peer's mark on a lane and tells whether it was the round's last.
func (b *barrier) mark(lane int) (complete bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complete, ok := b.marked.add(lane)
	if !ok {
		return false, fmt.Errorf("second mark on lane %d before the others", lane)
	}
	return complete, nil
}

// echo notes the peer's echo on a lane. The last one ends the round.
func (b *barrier) echo(lane int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done == nil {
		return fmt.Errorf("echo on lane %d without a mark", lane)
	}
	complete, ok := b.echoed.add(lane)
	if !ok {
		return fmt.Errorf("second echo on lane %d", lane)
	}
	if complete {
		close(b.done)
		b.done = nil
		<-b.round // holds one: does not block
	}
	return nil
}
