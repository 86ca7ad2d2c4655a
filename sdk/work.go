package iris

import (
	"context"
	"sync"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// A task is one request given to the service.
type task struct {
	session *session
	id      uint64
	request Request
	expires time.Time // zero: never
	size    int       // bytes counted against the memory limit

	// guarded by work.mu
	over string             // why it need not run any more
	stop context.CancelFunc // of the handler's context; nil: none
}

// work decides which requests run, wait or are turned away. The node may give
// the service as many as there is credit for: threads and queue together, less
// what the service holds. relay.md 5.5.
type work struct {
	threads, capacity, batch, memory int
	start                            func(*task) // runs a goroutine

	mu        sync.Mutex // guards the fields below
	ready     bool       // Init is done: credit may be granted
	session   *session   // that the fields up to held are about
	credit    int        // granted and not used
	owed      int        // to be granted
	held      map[uint64]*task
	running   int // handlers, of lost sessions too
	queue     []*task
	average   int // size of a request, smoothed
	bytes     int // of the unsettled
	unsettled int // tasks: together with credit and owed they are the capacity
	idle      chan struct{}
	seats     []seat // of goroutines that wait, the last one first; at most maxSeats
	dismissed bool   // nobody waits any more
}

func newWork(l ServiceLimits, start func(*task)) *work {
	return &work{
		threads:  l.RequestThreads,
		capacity: l.RequestThreads + l.RequestQueue,
		batch:    max(1, l.RequestQueue/4), // keeps credit for all threads outstanding
		memory:   l.RequestMemory,
		start:    start,
	}
}

// open lets begin grant credit: Init is done.
func (w *work) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = true
}

// begin makes s the session that requests come from and returns the credit to
// grant to it: 0 if that was done, or is too early or too late. What still runs of
// a lost session keeps its share.
func (w *work) begin(s *session) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-s.ended: // its lost has come or is to come
		return 0
	default:
	}
	if !w.ready || w.session == s {
		return 0
	}
	w.session = s
	w.held = make(map[uint64]*task)
	w.credit, w.owed = 0, w.capacity-w.unsettled
	return w.grantLocked(1)
}

// take accepts a request of the node, whose slices are copied, or turns it away.
// Only the reader calls it. The error is the node's breach of the protocol.
func (w *work) take(s *session, r wire.Request) error {
	t := &task{session: s, id: r.ID, size: len(r.Payload) + len(r.Headers)}
	switch fits, err := w.reserve(t); {
	case err != nil:
		return err
	case !fits:
		t.size = 0
		credit, _ := w.settle(t)
		s.refuse(t.id, credit)
		return nil
	}
	t.fill(r)
	switch seat, admitted := w.admit(t); {
	case seat != nil:
		seat <- t
	case admitted:
		w.start(t)
	}
	return nil
}

// reserve uses up credit and memory for t; false: there is no memory. That is
// rare: credit is granted by the memory that late requests would take.
func (w *work) reserve(t *task) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != t.session || w.credit == 0 || w.held[t.id] != nil {
		return false, unexpected("a request without credit, or with the id of another")
	}
	w.credit--
	w.average += (t.size - w.average) / 16
	w.held[t.id] = t
	w.unsettled++
	if w.bytes > 0 && w.bytes+t.size > w.memory {
		return false, nil
	}
	w.bytes += t.size
	return true, nil
}

func (t *task) fill(r wire.Request) {
	t.request.Payload = append(make([]byte, 0, len(r.Payload)), r.Payload...)
	t.request.Headers = decodeHeaders(r.Headers)
	if r.Budget != wire.NoDeadline {
		t.expires = time.Now().Add(time.Duration(r.Budget) * time.Millisecond)
	}
}

// A seat is where a goroutine that has run handlers waits for another task: a
// channel of capacity 1. It is closed when no more will come.
type seat chan *task

// maxSeats bounds the goroutines that wait for tasks. Their stacks have grown to
// what handlers need, which is most of the cost of a new one.
const maxSeats = 64

// admit gives t a thread: that of a goroutine that waits, whose seat it returns,
// or true for a new one. Otherwise t waits for a thread.
func (w *work) admit(t *task) (seat, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == w.threads {
		w.queue = append(w.queue, t)
		return nil, false
	}
	w.running++
	last := len(w.seats) - 1
	if last < 0 {
		return nil, true
	}
	s := w.seats[last]
	w.seats = w.seats[:last]
	return s, true
}

// refuse answers a request that the service has no memory for, and grants n
// further ones. relay.md 5.4: a service has no other code for it.
func (s *session) refuse(id uint64, n int) {
	r := wire.Reply{ID: id, Code: wire.CodeFailed, Text: []byte("not executed: the service holds as many bytes of requests as it may")}
	s.say(r.Size()+ctlSize, func(b []byte) []byte { return appendAnswer(b, r, n) })
}

// appendAnswer appends a reply and the credit that goes with it, which comes
// first so that the node has it before the requester can ask again.
func appendAnswer(b []byte, r wire.Reply, n int) []byte {
	if n > 0 {
		b = wire.AppendCredit(b, wire.KindRequest, uint32(n))
	}
	return wire.AppendReply(b, r)
}

// enter registers how to stop a task that is about to run. If it need not run
// any more it returns why.
func (w *work) enter(t *task, stop context.CancelFunc) (over string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.over == "" && !t.expires.IsZero() && !time.Now().Before(t.expires) {
		t.over = "its time was over"
	}
	t.stop = stop
	return t.over
}

// cancel gives up a task. A cancel that crossed the reply is ignored. The id
// is the node's to use again: relay.md 5.9.
func (w *work) cancel(s *session, id uint64) {
	w.mu.Lock()
	var t *task
	if w.session == s {
		t = w.held[id]
		delete(w.held, id)
	}
	stop := t.endLocked("it was cancelled")
	w.mu.Unlock()
	stop()
}

// endLocked marks t and returns what to call without the lock.
func (t *task) endLocked(why string) func() {
	if t == nil || t.over != "" {
		return func() {}
	}
	t.over = why
	if t.stop == nil {
		return func() {}
	}
	return t.stop
}

// settle ends a task, whose reply is about to be written. It returns the credit
// to grant with it, and how many handlers run.
func (w *work) settle(t *task) (credit, running int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= t.size
	w.unsettled--
	if w.session == nil {
		return 0, w.running
	}
	if w.held[t.id] == t {
		delete(w.held, t.id)
	}
	w.owed++ // one of a lost session had kept its share from this one
	return w.grantLocked(w.batch), w.running
}

// grantLocked takes from what is owed, if that is at least batch, as much as
// there is memory for, going by the size of late requests. One request is always
// welcome.
func (w *work) grantLocked(batch int) int {
	if w.owed < batch {
		return 0
	}
	room := max(0, w.memory-w.bytes)/max(w.average, minAverage) - w.credit
	if w.credit+w.unsettled == 0 {
		room = max(room, 1)
	}
	n := min(w.owed, max(room, 0))
	w.owed -= n
	w.credit += n
	return n
}

// minAverage is the least that a request counts when memory is shared out.
const minAverage = 64

// next gives the goroutine of an answered task another one, for which it may
// wait on own, or nil to end.
func (w *work) next(own seat) *task {
	w.mu.Lock()
	if len(w.queue) > 0 {
		defer w.mu.Unlock()
		t := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		return t
	}
	w.running--
	if w.running == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	if own == nil || w.dismissed || len(w.seats) == maxSeats {
		w.mu.Unlock()
		return nil
	}
	w.seats = append(w.seats, own)
	w.mu.Unlock()
	return <-own
}

// dismiss ends the goroutines that wait for tasks, now and later.
func (w *work) dismiss() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dismissed = true
	for _, s := range w.seats {
		close(s)
	}
	w.seats = nil
}

// lost forgets what waits of a session and cancels what runs.
func (w *work) lost(s *session) {
	w.mu.Lock()
	if w.session != s {
		w.mu.Unlock()
		return
	}
	for _, t := range w.queue {
		w.bytes -= t.size
		w.unsettled--
	}
	stops := make([]func(), 0, len(w.held))
	for _, t := range w.held {
		stops = append(stops, t.endLocked("its connection was lost"))
	}
	w.session, w.held, w.queue, w.credit, w.owed = nil, nil, nil, 0, 0
	w.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// awaitIdle returns a channel that is closed when nothing runs or waits.
func (w *work) awaitIdle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	if w.running == 0 {
		close(w.idle)
		w.idle = nil
	}
	return idle
}
