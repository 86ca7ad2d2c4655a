package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// defaultPatience is that of a Suite that does not say.
	defaultPatience = 5 * time.Second
	// handshakePatience is how long the end of an unfinished opening may take:
	// relay.md 2.8.
	handshakePatience = 12 * time.Second
)

// A Grade tells how connections ended that the other side had to end, apart from
// whether the case passed.
type Grade string

// The grades, the best first.
const (
	GradeNone   Grade = ""       // no end was awaited
	GradeClean  Grade = "clean"  // a last frame, then the end of the stream
	GradeReset  Grade = "reset"  // a last frame, then a reset
	GradeSilent Grade = "silent" // no last frame
)

// errPatience says that what was awaited did not come.
var errPatience = errors.New("nothing came in time")

// A player plays one case in one shape.
type player struct {
	dial     func(context.Context) (net.Conn, error) // mode relay
	port     int                                     // mode relay: of the endpoint, 0 if not known
	answers  bool                                    // mode relay: pings are answered at once
	subject  *subject                                // mode binding
	patience time.Duration
	shape    Shape
	unique   string // makes the names of this run its own
	refs     map[ref]any
	trace    trace
	server   *server             // mode binding
	commands map[string]*command // mode binding: by name
	attached []string            // mode binding: the subject's connections
	grade    Grade

	mu      sync.Mutex // guards the fields below, and those of the connections
	changed chan struct{}
	conns   map[string]*conn
	former  []*conn // whose names have other connections now
	notices []notice
	failure error // of an invariant, or of the subject
	readers sync.WaitGroup
}

// play returns what went wrong.
func (p *player) play(ctx context.Context, c Case) error {
	p.refs, p.conns, p.commands = map[ref]any{}, map[string]*conn{}, map[string]*command{}
	p.changed, p.trace.began = make(chan struct{}), time.Now()
	defer p.end()
	if c.Mode == Binding {
		if err := p.open(c.endpoint); err != nil {
			return err
		}
	}
	for i, s := range c.steps {
		err := s.action.play(ctx, p, s.on)
		if err == nil {
			err = p.failed()
		}
		if err != nil {
			return &stepError{i + 1, len(c.steps), s, err}
		}
	}
	return nil
}

// A stepError says at which step a case failed.
type stepError struct {
	number, of int
	step       step
	err        error
}

func (e *stepError) Error() string {
	text := e.step.String()
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return fmt.Sprintf("step %d of %d (%s): %v", e.number, e.of, text, e.err)
}
func (e *stepError) Unwrap() error { return e.err }

// end closes what is open.
func (p *player) end() {
	p.mu.Lock()
	all := p.former
	for _, c := range p.conns {
		all = append(all, c)
	}
	for _, c := range all {
		c.closed = true
	}
	p.notifyLocked()
	p.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
	if p.server != nil {
		p.release() // before the port is another play's
		p.server.close()
	}
	p.readers.Wait()
}

// failed is what an invariant found.
func (p *player) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

func (p *player) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failLocked(err)
}

func (p *player) failLocked(err error) {
	if p.failure == nil {
		p.failure = err
	}
	p.notifyLocked()
}

func (p *player) notifyLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// adopt makes nc the connection of a name, and reads it.
func (p *player) adopt(nc net.Conn, name string, watch *monitor) *conn {
	c := &conn{Conn: nc, name: name, shape: p.shape, p: p, state: watch}
	p.mu.Lock()
	if old := p.conns[name]; old != nil {
		p.former = append(p.former, old)
	}
	p.conns[name] = c
	p.mu.Unlock()
	p.trace.note(name, "connected")
	p.readers.Go(c.read)
	return c
}

// conn finds a connection by its name.
func (p *player) conn(name string) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("there is no connection %q yet", name)
}

// awaitReading waits while reading is stalled.
func (p *player) awaitReading(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c.stalled && !c.closed {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
}

// over tells whether this side has closed a connection.
func (p *player) over(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.closed
}

// flush sends what is held: what is awaited may be an answer to what any
// connection sent.
func (p *player) flush() error {
	p.mu.Lock()
	var all []*conn
	for _, c := range p.conns {
		if !c.closed {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	for _, c := range all {
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until ready, which is called with mu held, says so or fails.
func (p *player) wait(ctx context.Context, patience time.Duration, ready func() (bool, error)) error {
	if err := p.flush(); err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for late := false; ; {
		p.mu.Lock()
		done, err := ready()
		if !done && err == nil {
			err = p.failure
		}
		changed := p.changed
		p.mu.Unlock()
		switch {
		case done || err != nil:
			return err
		case late:
			return errPatience
		}
		select {
		case <-changed:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next waits for the next frame of a connection, or its end. Frames that ignore
// names are passed over: those that the other side may send at any time.
func (p *player) next(ctx context.Context, c *conn, patience time.Duration, ignore func(op) bool) (a arrival, err error) {
	err = p.wait(ctx, patience, func() (bool, error) {
		for len(c.queue) > 0 {
			a = c.queue[0]
			c.queue = c.queue[1:]
			if a.err != nil || ignore == nil || !ignore(a.op) {
				return true, nil
			}
		}
		return false, nil
	})
	if err == nil && a.err != nil && !isEnd(a.err) {
		return a, a.err
	}
	return a, err
}

// arrived queues what came on a connection; false: no more comes.
func (p *player) arrived(c *conn, a arrival, frame []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := fromNode
	if p.server != nil {
		from = fromClient
	}
	if a.err == nil {
		if err := a.op.check(from, a.fields); err != nil && !c.closed {
			p.failLocked(fmt.Errorf("%s: %w", c.name, err))
		} else if p.answers && a.op.name == "ping" {
			p.mu.Unlock()
			_ = c.sendNow(appendFrame(nil, opNumber("pong"), a.fields[0]))
			p.mu.Lock()
		}
		if c.state != nil && !c.closed {
			answer, err := c.state.came(a.op, a.fields, frame)
			if err != nil {
				p.failLocked(fmt.Errorf("%s: %w", c.name, err))
			}
			if answer != nil {
				p.mu.Unlock()
				p.trace.add(c.name, sent, answer, nil)
				_ = c.sendNow(answer) // a broken connection is noticed by its reader
				p.mu.Lock()
			}
		}
	}
	for len(c.queue) >= maxQueued && !c.closed {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	c.queue = append(c.queue, a)
	p.notifyLocked()
	return a.err == nil
}
