package iris

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// A Connection attaches the program to the node on its host, and attaches again
// when the node is lost: see the package comment. Safe for concurrent use.
type Connection struct {
	options
	port    int
	cluster string   // empty: a client
	service *Service // nil: a client
	topics  topics
	crew    crew

	usable atomic.Pointer[session] // takes new requests; nil: await waits
	stop   context.CancelFunc      // ends the attempts to attach
	done   chan struct{}           // closed when run has ended

	mu         sync.Mutex    // guards the fields below
	session    *session      // nil while not attached
	changed    chan struct{} // closed and replaced when usable, session or err change
	registered bool          // Register has succeeded: HandleDrop is due when given up
	draining   bool          // a lost session is not replaced
	err        error         // closed for good: what requests get
}

// Connect attaches a client to the node at port. It waits at most 10 seconds.
// The error is ErrNoNode, ErrRefused or ErrProtocol.
func Connect(port int, opts ...Option) (*Connection, error) {
	return ConnectContext(context.Background(), port, opts...)
}

// ConnectContext is Connect bounded by ctx as well; the end of ctx means nothing
// to the connection that it returned.
func ConnectContext(ctx context.Context, port int, opts ...Option) (*Connection, error) {
	c := newConnection(port, opts)
	if err := c.open(ctx); err != nil {
		return nil, wrap(fmt.Sprintf("connect to port %d", port), err)
	}
	return c, nil
}

func newConnection(port int, opts []Option) *Connection {
	c := &Connection{options: applied(port, opts), port: port, done: make(chan struct{}), changed: make(chan struct{})}
	c.topics.kind, c.topics.crew = wire.KindEvent, &c.crew
	return c
}

// open attaches and starts the connection's goroutine, which Close waits for.
func (c *Connection) open(ctx context.Context) error {
	s, err := attach(ctx, c.dial, c.cluster)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.install(s)
	go c.run(run, s)
	return nil
}

// Close ends the connection: its requests in flight and later ones fail with
// ErrClosed, its tunnels are broken off, and no further call of a topic's handler
// starts; those that run are not waited for. On the connection of a service it is
// the service's Unregister.
// Idempotent, and callable from handlers; the error is nil for a client.
func (c *Connection) Close() error {
	if c.service != nil {
		return c.service.Unregister()
	}
	c.shut(ErrClosed, wire.AppendBye(nil, wire.CodeOK, ""))
	<-c.done
	return nil
}

// await returns a session that takes new requests, waiting for one while the
// connection is not attached or its node is leaving.
func (c *Connection) await(ctx context.Context) (*session, error) {
	for {
		if s := c.usable.Load(); s != nil {
			return s, nil
		}
		c.mu.Lock()
		err, changed, missed := c.err, c.changed, c.usable.Load() != nil
		c.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case missed:
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// install makes s the connection's session, unless that is to end. It takes
// requests as soon as the subscriptions are what they were.
func (c *Connection) install(s *session) bool {
	s.conn = c
	c.mu.Lock()
	if c.err != nil || c.draining {
		c.mu.Unlock()
		return false
	}
	c.session = s
	c.mu.Unlock()
	subs, credit := c.topics.begin(s)
	if len(subs) > 0 {
		return s.background(func() { c.resubscribe(s, subs, credit) })
	}
	close(s.settled)
	c.activate(s)
	return true
}

// activate lets requests in on s, if it still takes any.
func (c *Connection) activate(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s && c.err == nil && !s.leaving.Load() {
		c.usable.Store(s)
		c.notifyLocked()
	}
}

// retire keeps new requests from s.
func (c *Connection) retire(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.usable.CompareAndSwap(s, nil)
}

func (c *Connection) notifyLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Done is closed when the connection is over: Close was called, or the node was
// lost and given up. Err then says why.
func (c *Connection) Done() <-chan struct{} { return c.done }

// Err is nil as long as the connection is not over: ErrClosed after Close, and an
// error that is both ErrClosed and ErrNoNode when the node was given up.
func (c *Connection) Err() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// shut closes the connection for good, without waiting for its goroutine.
// Idempotent: the first reason stays.
func (c *Connection) shut(reason error, bye []byte) {
	c.mu.Lock()
	if c.err == nil {
		c.err = reason
	}
	s := c.session
	c.usable.Store(nil)
	c.notifyLocked()
	c.mu.Unlock()
	c.stop()
	c.topics.stop()
	if s != nil {
		s.end(reason, bye)
	}
}

// drain keeps the connection from attaching again and returns its session, nil
// if it is not attached.
func (c *Connection) drain() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	return c.session
}

// run reads one session after the other until the connection is closed or given up.
func (c *Connection) run(ctx context.Context, s *session) {
	defer close(c.done)
	defer c.stop()
	if c.service != nil {
		defer c.service.work.dismiss()
	}
	var o outage
	for {
		attached := time.Now()
		cause := s.read()
		reason := lossReason(cause)
		s.end(fmt.Errorf("%w: %w", ErrLost, reason), byeFor(cause))
		s.awaitLate()
		if !c.detached(s) {
			return
		}
		o.update(attached)
		c.log.Warn("iris: lost the node", "port", c.port, "cluster", c.cluster, "err", reason)
		next, err := c.reattach(ctx, &o, reason)
		if err != nil {
			c.giveUp(err)
			return
		}
		if !c.install(next) {
			next.end(ErrClosed, wire.AppendBye(nil, wire.CodeOK, ""))
			return
		}
		c.log.Info("iris: attached to the node again", "port", c.port, "cluster", c.cluster)
		if c.service != nil {
			c.service.grant(next)
		}
		s = next
	}
}

// detached takes note that s has ended. It returns whether there is to be another.
func (c *Connection) detached(s *session) bool {
	if c.service != nil {
		c.service.lost(s)
	}
	c.topics.lost(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = nil
	c.notifyLocked()
	return c.err == nil && !c.draining
}

// giveUp closes the connection because there is no node any more.
func (c *Connection) giveUp(reason error) {
	err := fmt.Errorf("%w: %w", ErrClosed, reason)
	c.mu.Lock()
	if c.err != nil || c.draining {
		c.mu.Unlock()
		return
	}
	c.err = err
	registered := c.registered
	c.notifyLocked()
	c.mu.Unlock()
	c.topics.stop()
	c.log.Error("iris: gave up the node", "port", c.port, "cluster", c.cluster, "err", reason)
	if registered {
		c.service.drop(err)
	}
}

// stable is how long a session must have lasted for its loss to begin a new outage.
const stable = 2 * lastPause

// An outage is the time from the loss of a node until a session lasts.
type outage struct {
	began  time.Time
	pauses backoff
}

func (o *outage) update(attached time.Time) {
	if now := time.Now(); o.began.IsZero() || now.Sub(attached) >= stable {
		*o = outage{began: now}
	}
}

// reattach tries until it is attached, the limit is over, or the node says that
// there is no point. It returns why not.
func (c *Connection) reattach(ctx context.Context, o *outage, reason error) (*session, error) {
	ctx, cancel := context.WithDeadline(ctx, o.began.Add(c.reconnect))
	defer cancel()
	for {
		pause := time.NewTimer(o.pauses.next())
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, fmt.Errorf("given up after %v: %w", time.Since(o.began).Round(time.Millisecond), reason)
		}
		s, err := attach(ctx, c.dial, c.cluster)
		if err == nil {
			return s, nil
		}
		var refused *RefusedError
		if errors.As(err, &refused) && !refused.passing() {
			return nil, err
		}
		if ctx.Err() == nil {
			reason = err
		}
	}
}
