package iris

import (
	"context"
	"sync"

	"github.com/project-iris/iris/spec/wire"
)

// share is how many messages an inbox holds at most, and so how much credit the
// connection grants for it.
const share = 16_384

// creditBatch is how much credit is granted again at once. It is a part of one
// share, so that inboxes that are full never keep others from theirs.
const creditBatch = share / 4

// An intake is what a connection takes of one kind of message that nobody waits
// for, events or broadcasts: the credit for it, and the inboxes that it goes to.
//
// The node has as much credit as the inboxes have room together. Where there is
// one inbox, what exceeds it is dropped by the node, for want of credit. Where
// there are several and one is full, the node cannot know: what comes for that
// one is dropped here, so that the others get theirs. relay.md 5.5.
type intake struct {
	kind uint32
	crew *crew

	mu      sync.Mutex // guards the fields below, and those of the inboxes
	ready   bool       // credit may be granted
	session *session   // that credit is about; nil: not attached
	boxes   int
	credit  int // granted and not used
	owed    int // to be granted; negative: inboxes that had their credit are gone
	held    int // messages that wait or are being handled
	bytes   int // of those held
	memory  int // of the inboxes
	average int // size of a message, smoothed
}

// addLocked makes room for b.
func (in *intake) addLocked(b *inbox) {
	b.intake = in
	in.boxes++
	in.owed += share
	in.memory += b.memory
}

// removeLocked lets no handler of b start any more and forgets what waits in it.
func (in *intake) removeLocked(b *inbox) {
	if b.removed {
		return
	}
	b.closed.Store(true)
	b.removed = true
	waiting := len(b.queue) - b.head
	for _, m := range b.queue[b.head:] {
		in.bytes -= b.weight(m)
		b.bytes -= b.weight(m)
	}
	b.queue, b.head = nil, 0
	b.held -= waiting
	in.held -= waiting
	in.boxes--
	in.owed += waiting - share
	in.memory -= b.memory
}

// beginLocked makes s the session that messages come from, and returns the credit
// to grant to it. What is still held of a lost session keeps its share.
func (in *intake) beginLocked(s *session) int {
	select {
	case <-s.ended:
		return 0
	default:
	}
	if !in.ready || in.session == s {
		return 0
	}
	in.session = s
	in.credit, in.owed = 0, in.boxes*share-in.held
	return in.grantLocked(1)
}

// lost ends the credit of a session.
func (in *intake) lost(s *session) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.session == s {
		in.session, in.credit = nil, 0
	}
}

// grantLocked takes from what is owed, if that is at least batch, as much as
// there is memory for, going by the size of late messages. Every inbox may hold
// one message, however large.
func (in *intake) grantLocked(batch int) int {
	if in.session == nil || in.owed < batch {
		return 0
	}
	room := max(0, in.memory-in.bytes)/max(in.average, minAverage) - in.credit
	room = max(room, in.boxes-in.held-in.credit)
	n := min(in.owed, max(room, 0))
	in.owed -= n
	in.credit += n
	return n
}

// admit takes a message for b, which keeps it, or drops it; b may be nil.
// Only the reader calls it. The error is the node's breach of the protocol.
func (in *intake) admit(s *session, b *inbox, m held) error {
	in.mu.Lock()
	if in.session != s || in.credit == 0 {
		in.mu.Unlock()
		return unexpected("an event or a broadcast without credit")
	}
	in.credit--
	in.average += (len(m.bytes) - in.average) / 16
	added, start := false, false
	if b != nil {
		added, start = b.putLocked(m)
	}
	credit, full := 0, false
	if !added {
		in.owed++
		credit = in.grantLocked(creditBatch)
		full = b != nil && !b.removed
	}
	in.mu.Unlock()
	if start {
		in.crew.start(func() { b.serve(batch{}, 0) })
	}
	if full {
		b.full()
	}
	if credit > 0 {
		s.say(ctlSize, func(b []byte) []byte { return wire.AppendCredit(b, in.kind, uint32(credit)) })
	}
	return nil
}

// settleLocked ends what an inbox has handled, and returns the credit to grant for it.
func (in *intake) settleLocked(n, bytes int) (credit int) {
	in.held -= n
	in.bytes -= bytes
	in.owed += n
	return in.grantLocked(creditBatch)
}

// grant tells the node, waiting for room in the output.
func (in *intake) grant(s *session, credit int) {
	if credit > 0 {
		// An error is the end of the session, which its reader notices.
		_ = s.write(context.Background(), ctlSize, func(b []byte) []byte { return wire.AppendCredit(b, in.kind, uint32(credit)) })
	}
}
