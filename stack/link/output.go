package link

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/quic-go/quic-go"
)

const (
	// laneLimit and controlLimit bound what waits in the output of a lane and of the
	// control stream, in bytes. One message may be larger, when nothing else waits.
	// A lane holds some dozens of the largest requests.
	laneLimit    = 16 << 20
	controlLimit = 1 << 20
	// outputBuffer is the size that buffers start with.
	outputBuffer = 16 << 10
	// inlineLimit is the largest batch that the flusher itself queues, in bytes:
	// TryWriteAll copies once more than Write and allocates, which costs more than
	// the wake-up of a goroutine when a batch is large.
	inlineLimit = 8 << 10
)

// A writer is the sending side of a stream.
type writer interface {
	TryWriteAll(b []byte) error // queues b, or returns quic.ErrWouldBlock and queues nothing
	Write(b []byte) (int, error)
}

// A buffer is half of an output's double buffer, from a pool, so that idle
// outputs hold none.
type buffer struct{ b []byte }

// newBuffers makes a pool of buffers.
func newBuffers() *sync.Pool {
	return &sync.Pool{New: func() any { return &buffer{make([]byte, 0, outputBuffer)} }}
}

// An output is one direction of a stream: a bounded queue of messages, written in
// batches. While somebody writes a batch others append to the next. It is safe
// for concurrent use.
type output struct {
	w       writer
	limit   int // bytes that may wait
	buffers *sync.Pool
	wg      *sync.WaitGroup // of who waits for the goroutine that writes
	end     func()          // ends the stream; nil for one that lives as long as its link

	mu       sync.Mutex // guards the fields below
	messages uint64     // queued so far
	pending  *buffer    // appended, not yet being written; nil if nothing is
	inFlight int        // bytes of the batch being written
	echoes   [2]int     // that are pending, and in that batch
	writing  bool       // somebody writes until nothing is pending
	closed   bool
	room     chan struct{} // closed when the queue is at most half full, or closed; nil unless somebody waits
	last     bool          // nothing is appended any more; what is pending goes out, then the stream ends
	finished bool          // and has
}

// append queues head+body as one message: ErrFull if there is no room for it,
// ErrClosed if the link is closed. It writes nothing.
func (o *output) append(head, body []byte) error { return o.appendAfter(nil, head, body) }

// appendAfter queues what stands before the length of a message, and the message.
func (o *output) appendAfter(before, head, body []byte) error {
	size := len(before) + headerBytes + len(head) + len(body)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.last {
		return ErrClosed
	}
	queued := o.queued()
	if queued > 0 && queued+size > o.limit {
		return ErrFull
	}
	if o.pending == nil {
		o.pending = o.buffers.Get().(*buffer)
	}
	o.pending.b = appendFrame(append(o.pending.b, before...), head, body)
	o.messages++
	return nil
}

// queued is how many bytes wait. mu is held.
func (o *output) queued() int {
	if o.pending == nil {
		return o.inFlight
	}
	return o.inFlight + len(o.pending.b)
}

// awaitRoom waits until the queue is at most half full. Its error is that of ctx,
// or ErrClosed.
func (o *output) awaitRoom(ctx context.Context) error {
	for {
		room, err := o.roomToCome()
		if room == nil || err != nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// roomToCome is nil when there is room, and otherwise closed when there may be.
func (o *output) roomToCome() (<-chan struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	if o.queued() <= o.limit/2 {
		return nil, nil
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room, nil
}

// tellRoom lets those go who wait for room. mu is held.
func (o *output) tellRoom() {
	if o.room != nil && (o.closed || o.queued() <= o.limit/2) {
		close(o.room)
		o.room = nil
	}
}

// mark queues a mark or an echo, which the limit does not concern: ErrFull if
// maxEchoes wait, ErrClosed if the link is closed. It writes nothing.
func (o *output) mark(length uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	if length == echoLength {
		if o.echoes[0]+o.echoes[1] == maxEchoes {
			return ErrFull
		}
		o.echoes[0]++
	}
	if o.pending == nil {
		o.pending = o.buffers.Get().(*buffer)
	}
	o.pending.b = binary.BigEndian.AppendUint32(o.pending.b, length)
	return nil
}

// Flush writes what is pending if nobody does. It never blocks: when the stream
// would, or the batch is large, a goroutine takes over until nothing is pending.
func (o *output) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing {
		return
	}
	o.writing = true
	for o.pending != nil && !o.closed {
		batch := o.take()
		o.mu.Unlock()
		err := o.try(batch.b)
		o.mu.Lock()
		if errors.Is(err, quic.ErrWouldBlock) && !o.closed {
			// Under mu and not closed: whoever waits for wg has not begun to.
			o.wg.Go(func() { o.drain(batch) })
			return
		}
		o.give(batch, err)
	}
	o.writing = false
	o.endIfLast()
}

// try queues a batch unless that would block or be slow.
func (o *output) try(batch []byte) error {
	if len(batch) > inlineLimit {
		return quic.ErrWouldBlock
	}
	return o.w.TryWriteAll(batch)
}

// drain writes batch and whatever is appended meanwhile.
func (o *output) drain(batch *buffer) {
	for {
		_, err := o.w.Write(batch.b)
		o.mu.Lock()
		o.give(batch, err)
		if o.pending == nil || o.closed {
			o.writing = false
			o.endIfLast()
			o.mu.Unlock()
			return
		}
		batch = o.take()
		o.mu.Unlock()
	}
}

// take begins a batch. mu is held.
func (o *output) take() *buffer {
	batch := o.pending
	o.pending = nil
	o.inFlight = len(batch.b)
	o.echoes = [2]int{0, o.echoes[0]}
	return batch
}

// give ends a batch; err means that the stream is gone. mu is held.
func (o *output) give(batch *buffer, err error) {
	o.inFlight = 0
	o.echoes[1] = 0
	batch.b = batch.b[:0]
	o.buffers.Put(batch)
	if err != nil {
		o.closed = true
	}
	o.tellRoom()
}

// finish ends the stream after what is queued.
func (o *output) finish() {
	o.mu.Lock()
	o.last = true
	o.mu.Unlock()
	o.Flush()
}

// endIfLast ends the stream if all was written and finish called. mu is held,
// nobody writes.
func (o *output) endIfLast() {
	if o.last && !o.closed {
		o.closed, o.finished = true, true
		o.end()
	}
}

// ended tells that the stream was ended by finish.
func (o *output) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.finished
}

// shut refuses messages from now on. The goroutine, if there is one, ends when
// the stream does.
func (o *output) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.pending = nil
	o.tellRoom()
}
