package link

import (
	"context"
)

// admit reserves the place of c's peer for c. The node with the lower id decides:
// there a connection that lives keeps its place, and c is a duplicate. At the
// higher id c comes with the other's decision, and whatever was there before is
// over. A connection that ends leaves its place only after Down has returned, so
// that the links of a peer do not overlap.
func (t *Transport) admit(ctx context.Context, c *Conn) error {
	for {
		present := t.reserve(c)
		if present == nil {
			return nil
		}
		if present.alive() {
			if t.id.Compare(c.peer) < 0 {
				return &LocalError{ReasonDuplicate}
			}
			present.Close(ReasonDuplicate)
		}
		select {
		case <-present.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reserve gives c the place of its peer, or returns the connection that has it.
func (t *Transport) reserve(c *Conn) *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if present := t.links[c.peer]; present != nil {
		return present
	}
	t.links[c.peer] = c
	return nil
}

// release leaves the place of c's peer if c has it.
func (t *Transport) release(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links[c.peer] == c {
		delete(t.links, c.peer)
	}
}

// raise tells whoever waits for c to be up.
func (t *Transport) raise(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(c.up)
	close(t.changed)
	t.changed = make(chan struct{})
}
