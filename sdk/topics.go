package iris

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/project-iris/iris/spec/wire"
)

// topics are a connection's subscriptions: those that the node has or, while
// there is none, will be told of. The intake's mutex guards the table too.
type topics struct {
	intake
	table map[string]*subscription
	over  bool // the connection is closed
}

// A subscription is one topic with its handler.
type subscription struct {
	inbox
	topic string
	state state // guarded by intake.mu
}

// A state says how far a subscription is.
type state int

const (
	pending state = iota // subscribe is in flight
	live                 // it is told to every further session
	leaving              // unsubscribe is in flight
)

// add enters a subscription that s is about to be told of, and returns the
// credit to grant with it. errNotSent: s has ended.
func (t *topics) add(s *session, sub *subscription) (credit int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return 0, ErrClosed
	case t.table[sub.topic] != nil:
		return 0, fmt.Errorf("%w: it is subscribed already", ErrInvalid)
	case t.session != s:
		return 0, errNotSent
	}
	if t.table == nil {
		t.table = make(map[string]*subscription)
	}
	t.table[sub.topic] = sub
	t.addLocked(&sub.inbox)
	return t.grantLocked(1), nil
}

// confirm: the subscription is effective.
func (t *topics) confirm(sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sub.state = live
}

// revoke takes back credit that s was not told of.
func (t *topics) revoke(s *session, credit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == s {
		t.credit -= credit
		t.owed += credit
	}
}

// drop forgets a subscription; its handler is not started any more.
func (t *topics) drop(sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(sub)
}

func (t *topics) dropLocked(sub *subscription) {
	if t.table[sub.topic] == sub {
		delete(t.table, sub.topic)
		t.removeLocked(&sub.inbox)
	}
}

// find returns the subscription of a topic and the session that has it. Where
// there is no session, nobody is to be told, and the subscription is dropped.
func (t *topics) find(topic string) (*subscription, *session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sub := t.table[topic]
	if sub == nil || sub.state != live {
		return nil, nil, fmt.Errorf("%w: it is not subscribed", ErrInvalid)
	}
	if t.session == nil {
		t.dropLocked(sub)
	}
	return sub, t.session, nil
}

// leave lets no handler of sub start any more; false if meanwhile it is not live
// on s.
func (t *topics) leave(s *session, sub *subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != s || sub.state != live {
		return false
	}
	sub.state = leaving
	sub.closed.Store(true)
	return true
}

// begin returns the subscriptions that s is to be told of, and the credit.
func (t *topics) begin(s *session) ([]*subscription, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = true
	credit := t.beginLocked(s)
	var again []*subscription
	for _, sub := range t.table {
		if sub.state == live {
			again = append(again, sub)
		}
	}
	slices.SortFunc(again, func(a, b *subscription) int { return cmp.Compare(a.topic, b.topic) })
	return again, credit
}

// stop drops all: the connection is closed.
func (t *topics) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	for _, sub := range t.table {
		t.dropLocked(sub)
	}
}

// event queues an event for its subscription. One that crossed an unsubscribe
// finds none. Only the reader calls it.
func (t *topics) event(s *session, e wire.Event) error {
	t.mu.Lock()
	sub := t.table[string(e.Topic)]
	t.mu.Unlock()
	if sub == nil {
		return t.admit(s, nil, held{})
	}
	return t.admit(s, &sub.inbox, hold(e.Payload, e.Headers))
}
