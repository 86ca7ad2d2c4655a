package iris

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	batchMost   = 64          // messages that one goroutine takes at once
	warnPause   = time.Minute // between two warnings about an inbox
	keptEntries = 256         // of a queue that has run empty
)

// An inbox is a queue of messages for one handler, in their order. At most share
// messages and memory bytes are held, of which one alone may exceed the memory;
// the newest is dropped when there is no room, and a warning tells how many were.
type inbox struct {
	intake  *intake
	log     *slog.Logger // with the name
	method  string       // that handle calls, for the log
	threads int          // one: in order
	memory  int
	handle  func(held)
	closed  atomic.Bool // no handler is to start

	// guarded by intake.mu
	removed bool
	queue   []held // from head on
	head    int
	running int // goroutines
	held    int
	bytes   int
	dropped int // since warned
	warned  time.Time
}

// A held message waits or is being handled. Its payload and headers share an
// allocation, which keeps queues of messages without headers small.
type held struct {
	bytes   []byte // the payload, then the headers
	headers int    // bytes of headers
}

// hold copies a message of the reader's.
func hold(payload []byte, headers wire.Headers) held {
	b := append(make([]byte, 0, len(payload)+len(headers)), payload...) // never nil: it is empty, not missing
	return held{append(b, headers...), len(headers)}
}

func (m held) payload() []byte {
	n := len(m.bytes) - m.headers
	return m.bytes[:n:n]
}

func (m held) message() *Message {
	payload := m.payload()
	return &Message{payload, decodeHeaders(m.bytes[len(payload):])}
}

// A batch is what a goroutine took at once.
type batch struct {
	messages []held
	bytes    int
}

// weight is what a message counts against the memory: never more than there is,
// so that a large one takes nothing from other inboxes.
func (b *inbox) weight(m held) int { return min(len(m.bytes), b.memory) }

// putLocked queues a message if there is room, and tells whether a goroutine is
// to be started for it.
func (b *inbox) putLocked(m held) (added, start bool) {
	weight := b.weight(m)
	switch {
	case b.removed:
		return false, false
	case b.held >= share || b.bytes+weight > b.memory && b.held > 0:
		b.dropped++
		return false, false
	}
	b.appendLocked(m)
	b.held++
	b.bytes += weight
	b.intake.held++
	b.intake.bytes += weight
	if b.running == b.threads {
		return true, false
	}
	b.running++
	return true, true
}

// full warns that messages were dropped, now and then.
func (b *inbox) full() {
	now := time.Now()
	b.intake.mu.Lock()
	n := b.dropped
	if !b.warned.IsZero() && now.Sub(b.warned) < warnPause {
		n = 0
	} else {
		b.dropped, b.warned = 0, now
	}
	b.intake.mu.Unlock()
	if n > 0 {
		b.log.Warn("iris: a slow handler: its newest messages are dropped", "method", b.method, "dropped", n)
	}
}

// serve is a goroutine that runs handlers until nothing waits: first what is left
// of a batch from at on.
func (b *inbox) serve(taken batch, at int) {
	over := false
	defer func() {
		if !over { // the handler ended the goroutine: another one takes its place
			b.intake.crew.start(func() { b.serve(taken, at) })
		}
	}()
	for {
		for at < len(taken.messages) {
			m := taken.messages[at]
			at++
			if !b.closed.Load() {
				guard(b.log, b.method, func() { b.handle(m) })
			}
		}
		if taken, at = b.next(taken), 0; len(taken.messages) == 0 {
			over = true
			return
		}
	}
}

// next settles a batch and takes the next one; an empty one ends the goroutine.
func (b *inbox) next(done batch) batch {
	in := b.intake
	in.mu.Lock()
	credit, s := in.settleLocked(len(done.messages), done.bytes), in.session
	b.held -= len(done.messages)
	b.bytes -= done.bytes
	taken := b.takeLocked(done.messages)
	if len(taken.messages) == 0 {
		b.running--
	}
	in.mu.Unlock()
	in.grant(s, credit)
	return taken
}

// takeLocked takes a batch; used is room for it. Where order is not kept it is one message.
func (b *inbox) takeLocked(used []held) batch {
	clear(used)
	taken := batch{messages: used[:0]}
	most := batchMost
	if b.threads > 1 {
		most = 1
	}
	for b.head < len(b.queue) && len(taken.messages) < most && (len(taken.messages) == 0 || taken.bytes < b.memory/16) {
		m := b.queue[b.head]
		b.queue[b.head] = held{}
		b.head++
		taken.messages = append(taken.messages, m)
		taken.bytes += b.weight(m)
	}
	if b.head == len(b.queue) {
		b.head = 0
		if b.queue = b.queue[:0]; cap(b.queue) > keptEntries {
			b.queue = nil
		}
	}
	return taken
}

// appendLocked appends to the queue, in place of what was taken if that is most of it.
func (b *inbox) appendLocked(m held) {
	if len(b.queue) == cap(b.queue) && 2*b.head >= len(b.queue) {
		n := copy(b.queue, b.queue[b.head:])
		clear(b.queue[n:])
		b.queue, b.head = b.queue[:n], 0
	}
	b.queue = append(b.queue, m)
}
