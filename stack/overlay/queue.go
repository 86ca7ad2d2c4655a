package overlay

import (
	"context"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxQueue  = 1 << 20  // bytes that wait for a link to one node, or one larger message
	maxQueued = 64 << 20 // bytes of all of them
)

// A queue is what waits for a link to a node.
type queue struct {
	messages []queued
	bytes    int
	waiters  []chan struct{} // closed when there is a link, or none comes about
}

type queued struct {
	flow uint64
	msg  []byte
}

// direct is a link that may be sent on now, or nil.
func (ls *links) direct(id link.ID) *linked {
	l := ls.to(id)
	if l == nil {
		return nil
	}
	// In this order: whoever holds the link back looks whether it is in use after that.
	l.use()
	if l.held.Load() {
		return nil
	}
	return l
}

// waiting tells whether something waits for a link to a node.
func (ls *links) waiting(id link.ID) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.queues[id] != nil
}

// queueFor yields the queue of a node, and whether a link is to be asked for. mu is
// held.
func (ls *links) queueFor(id link.ID) (q *queue, ask bool) {
	q = ls.queues[id]
	if q == nil {
		q = &queue{}
		ls.queues[id] = q
		ask = ls.to(id) == nil
	}
	return q, ask
}

// sendLater keeps a message until there is a link.
func (o *Overlay) sendLater(t *link.Turn, to link.ID, flow uint64, head, body []byte) error {
	ls := &o.links
	ls.mu.Lock()
	if l := ls.direct(to); l != nil { // by now
		ls.mu.Unlock()
		return l.conn.Send(t, flow, head, body)
	}
	size, waiting := len(head)+len(body), 0
	if q := ls.queues[to]; q != nil {
		waiting = q.bytes
	}
	if waiting > 0 && waiting+size > maxQueue || ls.queued > 0 && ls.queued+size > maxQueued {
		ls.mu.Unlock()
		return link.ErrFull
	}
	q, ask := ls.queueFor(to)
	q.messages = append(q.messages, queued{flow, append(append(make([]byte, 0, size), head...), body...)})
	q.bytes += size
	ls.queued += size
	ls.mu.Unlock()
	if ask {
		o.mail.reach(to)
	}
	return nil
}

// awaitLink waits for a link to a node. It returns nil if none comes about.
func (o *Overlay) awaitLink(ctx context.Context, id link.ID) (*linked, error) {
	ls := &o.links
	ls.mu.Lock()
	if l := ls.direct(id); l != nil {
		ls.mu.Unlock()
		return l, nil
	}
	q, ask := ls.queueFor(id)
	done := make(chan struct{})
	q.waiters = append(q.waiters, done)
	ls.mu.Unlock()
	if ask {
		o.mail.reach(id)
	}
	select {
	case <-done:
		return ls.direct(id), nil
	case <-o.stopped:
		return nil, link.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// flush sends what has waited for a link, which may be sent on from now on. What
// cannot be sent goes back.
func (o *Overlay) flush(id link.ID) {
	ls := &o.links
	var t link.Turn
	var returned []queued
	ls.mu.Lock()
	l := ls.to(id)
	if l == nil { // it is going down: a link is asked for again when the core says that it is lost
		ls.mu.Unlock()
		return
	}
	q := ls.takeQueue(id)
	for _, m := range q.messages {
		if l.conn.Send(&t, m.flow, m.msg, nil) != nil {
			returned = append(returned, m)
		}
	}
	l.held.Store(false)
	ls.mu.Unlock()
	t.End()
	q.end(o, id, returned)
}

// giveBack returns what has waited for a link that does not come about.
func (o *Overlay) giveBack(id link.ID) {
	ls := &o.links
	ls.mu.Lock()
	if ls.to(id) != nil { // it has, from the other side
		ls.mu.Unlock()
		o.flush(id)
		return
	}
	q := ls.takeQueue(id)
	ls.mu.Unlock()
	q.end(o, id, q.messages)
}

// takeQueue takes the queue of a node away. mu is held.
func (ls *links) takeQueue(id link.ID) *queue {
	q := ls.queues[id]
	if q == nil {
		return &queue{}
	}
	delete(ls.queues, id)
	ls.queued -= q.bytes
	return q
}

// end tells those who wait, and returns messages.
func (q *queue) end(o *Overlay, id link.ID, returned []queued) {
	closeAll(q.waiters)
	for _, m := range returned {
		o.handler.Returned(id, m.msg)
	}
}
