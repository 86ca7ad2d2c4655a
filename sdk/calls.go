package iris

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/project-iris/iris/spec/wire"
)

// errNotSent ends a call that waited for a place while the session ended: it
// may be made on the next one.
var errNotSent = errors.New("not sent")

// An ending is how a request ended: a reply, or the end of the session. Or how
// another command of the application's ended, such as a subscribe.
type ending struct {
	code wire.Code
	text string
	Reply
	err error // the session ended instead
}

// A call is one request in flight. Whoever takes it out of the table fills in
// the ending and then signals done, once.
type call struct {
	done chan struct{} // capacity 1
	ending
}

// calls is the table of a session's unanswered requests and other commands: at most
// limit, because the node allows no more requests. Those beyond wait for a place in their order. The
// id of a request is its place in the table and a generation, so that a late
// reply never meets the next user of the place.
type calls struct {
	spare sync.Pool    // of *call
	used  atomic.Int32 // slots in use

	mu      sync.Mutex // guards the fields below
	limit   int
	slots   []slot   // grows up to limit
	free    []uint32 // places in slots
	waiting []*waiter
	err     error // the session has ended
}

type slot struct {
	generation uint32
	used       bool
	call       *call // nil in a used slot: the caller left, the reply is still to come
}

type waiter struct {
	call *call
	id   chan uint64 // capacity 1; closed when the session ends
}

// placeBits is the width of a place within an id.
const placeBits = 20

// maxPlaces bounds the table whatever a node allows.
const maxPlaces = 1 << placeBits

// borrow returns a call; release gives it back with done drained.
func (t *calls) borrow() *call {
	if c, ok := t.spare.Get().(*call); ok {
		return c
	}
	return &call{done: make(chan struct{}, 1)}
}

func (t *calls) release(c *call) {
	c.ending = ending{}
	t.spare.Put(c)
}

// add gives c a place, waiting for one if need be. errNotSent: the session has ended.
func (t *calls) add(ctx context.Context, c *call) (uint64, error) {
	t.mu.Lock()
	switch {
	case t.err != nil:
		t.mu.Unlock()
		return 0, errNotSent
	case len(t.free) > 0:
		place := t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
		defer t.mu.Unlock()
		return t.occupy(place, c), nil
	case len(t.slots) < t.limit:
		t.slots = append(t.slots, slot{})
		defer t.mu.Unlock()
		return t.occupy(uint32(len(t.slots)-1), c), nil
	}
	w := &waiter{c, make(chan uint64, 1)}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	return t.await(ctx, w)
}

func (t *calls) await(ctx context.Context, w *waiter) (uint64, error) {
	select {
	case id, ok := <-w.id:
		if !ok {
			return 0, errNotSent
		}
		return id, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		t.mu.Unlock()
		return 0, ctx.Err()
	}
	t.mu.Unlock()
	if id, ok := <-w.id; ok {
		t.withdraw(id, w.call)
	}
	return 0, ctx.Err()
}

// occupy needs the lock.
func (t *calls) occupy(place uint32, c *call) uint64 {
	s := &t.slots[place]
	s.generation++
	s.used, s.call = true, c
	t.used.Add(1)
	return uint64(s.generation)<<placeBits | uint64(place)
}

// slot finds the slot of an id, or nil. It needs the lock.
func (t *calls) slot(id uint64) *slot {
	place := id & (maxPlaces - 1)
	if place >= uint64(len(t.slots)) {
		return nil
	}
	if s := &t.slots[place]; s.used && uint64(s.generation) == id>>placeBits {
		return s
	}
	return nil
}

// answered frees the place of a request that the node has answered. It returns
// the call to complete, or nil if nobody waits for the answer any more.
func (t *calls) answered(id uint64) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slot(id)
	if s == nil {
		return nil
	}
	c := s.call
	t.vacate(s, uint32(id&(maxPlaces-1)))
	return c
}

// vacate hands the place to whoever waits longest. It needs the lock.
func (t *calls) vacate(s *slot, place uint32) {
	s.used, s.call = false, nil
	t.used.Add(-1)
	if len(t.waiting) == 0 {
		t.free = append(t.free, place)
		return
	}
	w := t.waiting[0]
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	w.id <- t.occupy(place, w.call)
}

// abandon leaves a request to itself: its place is free once the node has
// answered it. False: the call is being completed, done will be signalled.
func (t *calls) abandon(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slot(id)
	if s == nil || s.call == nil {
		return false
	}
	s.call = nil
	return true
}

// withdraw frees the place of c, which was not sent. c may be released afterwards.
func (t *calls) withdraw(id uint64, c *call) {
	t.mu.Lock()
	s := t.slot(id)
	if s == nil { // the session has ended, and completes c
		t.mu.Unlock()
		<-c.done
		return
	}
	t.vacate(s, uint32(id&(maxPlaces-1)))
	t.mu.Unlock()
}

// endIfIdle lets nobody in any more if there is no request.
func (t *calls) endIfIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) < len(t.slots) {
		return false
	}
	t.err = errNotSent
	return true
}

// end completes all calls with err and lets nobody in any more.
func (t *calls) end(err error) {
	t.mu.Lock()
	slots, waiting := t.slots, t.waiting
	t.slots, t.free, t.waiting, t.err = nil, nil, nil, err
	t.mu.Unlock()
	for i := range slots {
		if c := slots[i].call; c != nil {
			c.err = err
			c.done <- struct{}{}
		}
	}
	for _, w := range waiting {
		close(w.id)
	}
}
