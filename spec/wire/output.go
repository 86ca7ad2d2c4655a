package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Errors of an Output.
var (
	// ErrFull says that the bound is reached; nothing was appended.
	ErrFull = errors.New("wire: the output is full: the other side does not read")
	// ErrOutputClosed says that the Output is closed or its connection broke;
	// nothing was appended.
	ErrOutputClosed = errors.New("wire: the output is closed")
)

const (
	// inlineRounds is how often in a row Flush writes what others have appended
	// meanwhile, before it leaves the rest to the Output's goroutine.
	inlineRounds = 4
	// idleBuffer is the size in bytes of a buffer that an idle Output keeps.
	idleBuffer = 2 << 10
	// step is how many bytes are written at once to a connection that does not
	// tell its progress.
	step = 32 << 10
	// lingerTime is how long Close waits for the other side to end a connection, and
	// lingerBytes how much it drops meanwhile.
	lingerTime  = 200 * time.Millisecond
	lingerBytes = 64 << 20
)

// An Output batches frames to a connection: a bounded double buffer. Appending
// never blocks; whoever flushes first writes for all, where the socket takes it
// without waiting, and a goroutine of the Output's own, which exists only while
// needed, writes what the socket did not take. While somebody writes, others go
// on appending to the other buffer. Safe for concurrent use.
//
// The bound: what is appended must fit the limit together with what waits, but
// while at most half of the limit waits, any frame is accepted, however large.
// So it holds at most the limit, or half of it and one frame.
type Output struct {
	conn  net.Conn
	limit int

	mu      sync.Mutex // guards the fields below; held from Begin to Commit
	buf     []byte     // appended, nobody writes it yet
	writing bool       // somebody is the writer: it alone uses out, rest and sock
	unsent  int        // len(rest), for those who are not the writer
	since   time.Time  // when the goroutine last got rid of a byte; zero while there is none
	closing bool
	err     error         // of the connection: it broke
	changed chan struct{} // closed at the next progress; nil while nobody waits

	out  []byte // being written
	rest []byte // what of out is not yet written
	sock socket

	wg sync.WaitGroup // of the goroutine
}

// NewOutput writes to conn, holding about limit bytes at most. It starts nothing
// and closes conn only in Close. Nobody else may write to conn.
func NewOutput(conn net.Conn, limit int) *Output {
	o := &Output{conn: conn, limit: limit}
	o.sock.init(conn)
	return o
}

// Begin locks the output and returns its buffer to append at most size bytes
// to; Commit must follow at once. On an error (ErrFull, ErrOutputClosed)
// nothing is locked.
func (o *Output) Begin(size int) ([]byte, error) {
	o.mu.Lock()
	if o.closing || o.err != nil {
		o.mu.Unlock()
		return nil, ErrOutputClosed
	}
	if pending := len(o.buf) + o.unsent; pending > o.limit/2 && pending+size > o.limit {
		o.mu.Unlock()
		return nil, ErrFull
	}
	o.buf = growBuffer(o.buf, len(o.buf)+size)
	return o.buf, nil
}

// Commit stores what was appended and unlocks.
func (o *Output) Commit(b []byte) {
	o.buf = b
	o.mu.Unlock()
}

// Flush writes what the connection takes now and leaves the rest to the
// Output's goroutine. It never blocks. Where somebody writes already, it does
// nothing: the writer goes on until nothing waits.
func (o *Output) Flush() {
	if !o.becomeWriter() {
		return
	}
	for range inlineRounds {
		n, blocked, err := o.sock.tryWrite(o.rest)
		if !o.wrote(n, err) {
			return
		}
		if blocked {
			break
		}
	}
	o.mu.Lock()
	o.since = time.Now()
	o.mu.Unlock()
	o.wg.Go(o.writeOn)
}

// AwaitRoom waits until at most half of the limit is waiting; a Begin right
// after it succeeds if nobody else appends. For callers that may block. The
// error is ErrOutputClosed or that of ctx.
func (o *Output) AwaitRoom(ctx context.Context) error {
	o.Flush()
	for {
		o.mu.Lock()
		if o.closing || o.err != nil {
			o.mu.Unlock()
			return ErrOutputClosed
		}
		if len(o.buf)+o.unsent <= o.limit/2 {
			o.mu.Unlock()
			return nil
		}
		changed := o.watchLocked()
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wire: wait for room: %w", context.Cause(ctx))
		}
	}
}

// Stalled is how long nothing could be written although something waits; 0 when
// nothing waits. What was appended and not flushed does not wait.
func (o *Output) Stalled(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return 0
	}
	return max(0, now.Sub(o.since))
}

// Pending is the number of bytes waiting, flushed or not.
func (o *Output) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) + o.unsent
}

// Close ends the output: what waits is written until ctx is done, the other side
// is given a moment to read it (relay.md 6.4), and the connection is closed. It
// waits for the goroutine. Idempotent, and a second
// Close with a shorter ctx cuts the first one short. An error says that
// something was not written.
func (o *Output) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closing = true
	o.notifyLocked()
	o.mu.Unlock()
	o.Flush()
	written := o.awaitWritten(ctx.Done())
	if written && o.broken() == nil {
		linger(ctx, o.conn)
	}
	_ = o.conn.Close() // what was written is the socket's; a second close is an error of no interest
	o.awaitWritten(nil)
	o.wg.Wait()
	if !written {
		return fmt.Errorf("wire: close the connection with bytes unsent: %w", context.Cause(ctx))
	}
	if err := o.broken(); err != nil {
		return fmt.Errorf("wire: write the last bytes: %w", err)
	}
	return nil
}

// linger ends the sending direction of a TCP connection, and drops what still comes
// until the other side has ended its own: a connection that is closed with unread
// input is reset, and what was written last may be lost. Others are not reset.
func linger(ctx context.Context, conn net.Conn) {
	c, ok := conn.(*net.TCPConn)
	if !ok || ctx.Err() != nil || c.CloseWrite() != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	if c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes) // its end, however it comes
	}
}

// awaitWritten waits until nobody writes; false when done comes first.
func (o *Output) awaitWritten(done <-chan struct{}) bool {
	for {
		o.mu.Lock()
		if !o.writing {
			o.mu.Unlock()
			return true
		}
		changed := o.watchLocked()
		o.mu.Unlock()
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

func (o *Output) broken() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// becomeWriter makes the caller the writer if there is something to write and
// nobody writes it.
func (o *Output) becomeWriter() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || len(o.buf) == 0 {
		return false
	}
	o.writing = true
	o.swapLocked()
	return true
}

// writeOn is the Output's goroutine: it writes, waiting for the connection,
// until nothing is left.
func (o *Output) writeOn() {
	for {
		n, err := o.sock.write(o.rest)
		if !o.wrote(n, err) {
			return
		}
	}
}

// wrote accounts for n bytes that the writer got rid of. It returns whether
// there is more to write; if not, the caller is no longer the writer.
func (o *Output) wrote(n int, err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = o.rest[n:]
	o.unsent = len(o.rest)
	if n > 0 || err != nil {
		o.notifyLocked()
	}
	if n > 0 && !o.since.IsZero() {
		o.since = time.Now()
	}
	switch {
	case err != nil:
		o.err = err
		o.buf, o.out = nil, nil
	case o.unsent > 0:
		return true
	case len(o.buf) > 0:
		o.swapLocked()
		return true
	}
	o.restLocked()
	return false
}

// swapLocked makes what was appended what is being written.
func (o *Output) swapLocked() {
	o.buf, o.out = o.out[:0], o.buf
	o.rest = o.out
	o.unsent = len(o.rest)
}

// restLocked ends the writer's work and gives large buffers back.
func (o *Output) restLocked() {
	o.writing = false
	o.since = time.Time{}
	o.rest, o.unsent = nil, 0
	if cap(o.out) > idleBuffer {
		freeBuffer(o.out)
		o.out = nil
	}
	if cap(o.buf) > idleBuffer {
		freeBuffer(o.buf)
		o.buf = nil
	}
}

// watchLocked returns a channel that is closed at the next progress.
func (o *Output) watchLocked() <-chan struct{} {
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed
}

func (o *Output) notifyLocked() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}
