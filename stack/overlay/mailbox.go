package overlay

import (
	"math"
	"sync"

	"github.com/project-iris/iris/stack/link"
)

// A mailbox holds what callers want until the loop takes it. What is wanted
// again replaces what was wanted before, so that it is bounded by the number of
// groups and nobody has to wait to put something in.
type mailbox struct {
	wake chan struct{} // holds one when there is something to take

	mu    sync.Mutex // guards the fields below
	mail  mail
	ended bool // nobody takes anything any more
}

// Mail is what was wanted at some moment.
type mail struct {
	announced map[Group]announcement
	wished    map[Group]bool   // true to watch, false to unwatch
	reach     map[link.ID]bool // nodes that something is to be sent to
	settled   chan struct{}    // nil unless somebody asked
	left      chan struct{}    // nil unless somebody asked
}

type announcement struct {
	count uint32
	done  chan struct{}
}

func newMail() mail {
	return mail{announced: map[Group]announcement{}, wished: map[Group]bool{}, reach: map[link.ID]bool{}}
}

func (b *mailbox) init() {
	b.wake = make(chan struct{}, 1)
	b.mail = newMail()
}

func (b *mailbox) announce(g Group, count int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.mail.announced[g]
	if !ok {
		a.done = make(chan struct{})
	}
	a.count = uint32(min(max(count, 0), math.MaxInt32))
	if b.ended {
		close(a.done)
		return a.done
	}
	b.mail.announced[g] = a
	b.ring()
	return a.done
}

// reach wants a link to a node.
func (b *mailbox) reach(id link.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.mail.reach[id] = true
	b.ring()
}

func (b *mailbox) wish(g Group, watch bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.mail.wished[g] = watch
	b.ring()
}

func (b *mailbox) settled() <-chan struct{} { return b.ask(&b.mail.settled) }
func (b *mailbox) leave() <-chan struct{}   { return b.ask(&b.mail.left) }

// ask returns a channel that the loop closes, the same one until it is taken.
func (b *mailbox) ask(c *chan struct{}) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	if *c == nil {
		*c = make(chan struct{})
	}
	b.ring()
	return *c
}

func (b *mailbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take empties the mailbox. While busy, announcements stay in it, unless they
// must precede a leave.
func (b *mailbox) take(busy bool) mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.mail
	b.mail = newMail()
	if busy && taken.left == nil {
		b.mail.announced, taken.announced = taken.announced, nil
	}
	return taken
}

// end empties the mailbox for the last time: whoever waits need not wait longer.
func (b *mailbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for _, a := range b.mail.announced {
		close(a.done)
	}
	for _, c := range []chan struct{}{b.mail.settled, b.mail.left} {
		if c != nil {
			close(c)
		}
	}
	b.mail = mail{}
}
