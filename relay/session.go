package relay

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// outputLimit bounds what waits for a client to read it.
	outputLimit = 32 << 20
	// outputReserve lies above outputLimit, for the small frames that say what
	// did not fit.
	outputReserve = 1 << 20
	// maxGiven bounds the requests that a service has and has not answered,
	// whatever credit it granted.
	maxGiven = 1 << 16
	// flushTime is how long a session that ends may take to write what waits.
	flushTime = 2 * time.Second
)

// A Session is one attached application. Its Push methods and Flush are safe
// for concurrent use, also with the session's end, and never wait; they do not
// keep byte slices. After the end they do nothing.
type Session struct {
	server *Server
	id     uint64
	conn   net.Conn
	in     *wire.Reader
	out    *wire.Output
	heard  atomic.Bool // bytes have come since the watch last looked
	pulse  pulse       // owned by the watch

	// Owned by the reader.
	port  Port
	busy  bool // the port was called in this turn
	wrote bool // the reader itself has appended to out in this turn

	installing atomic.Int32   // goroutines that wait for a subscription to be effective
	waits      sync.WaitGroup // the same

	mu         sync.Mutex // guards the fields below
	cluster    string
	welcomed   bool
	reason     error               // why the session is ending; nil while it is not
	drain      drainState          // how far the service's drain is
	credit     [3]uint32           // messages the client is ready to be given, by kind: relay.md 5.5
	unanswered map[uint64]struct{} // the client's own requests
	given      map[uint64]struct{} // requests the service was given
	topics     map[string]struct{} // subscribed
	tunnels    map[uint64]*tunnelEnd
	offered    int           // tunnels among them that the client was offered
	dropped    drops         // what the client was too slow for
	gone       chan struct{} // closed when the session is over; nil before the first topic
}

// A drainState is how far a service's drain is. relay.md 6.1, 6.3.
type drainState uint8

const (
	notDraining drainState = iota
	withdrawing            // it is given nothing more; the network is being told
	finishing              // the network knows; it runs what it was given
	drained                // it was told so
)

// errGone ends a session whose client is gone: there is nobody to say bye to.
var errGone = errors.New("the client is gone")

func newSession(server *Server, conn net.Conn, id uint64) *Session {
	s := &Session{server: server, id: id, conn: conn, out: wire.NewOutput(conn, outputLimit+outputReserve)}
	s.in = wire.NewReader(input{s}, wire.HandshakeFrame)
	return s
}

// input lets the watch know that bytes have come.
type input struct{ s *Session }

// Read reads from the connection.
func (i input) Read(p []byte) (int, error) {
	n, err := i.s.conn.Read(p)
	if n > 0 {
		i.s.heard.Store(true)
	}
	return n, err
}

// run is the life of the session, and its reader.
func (s *Session) run() {
	defer s.server.forget(s)
	err := s.handshake()
	if err == nil {
		s.server.log.Debug("client attached", "conn", s.id, "cluster", s.cluster)
		err = s.read()
	}
	s.finish(s.end(err))
}

// end makes the session end, and its reader stop waiting. The first reason
// counts and is returned.
func (s *Session) end(reason error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endLocked(reason)
}

func (s *Session) endLocked(reason error) error {
	if s.reason == nil {
		s.reason = reason
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
	}
	return s.reason
}

// setReadDeadline does so unless the session is ending.
func (s *Session) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		_ = s.conn.SetReadDeadline(t) // fails only if the connection is closed, and so will reading
	}
}

// finish tells the network and the client that the session is over.
func (s *Session) finish(reason error) {
	c, attached := s.describe()
	if s.port != nil {
		s.closeTunnels(reason)
		s.port.Close()
	}
	s.mu.Lock()
	s.unanswered, s.given, s.topics, s.tunnels, s.offered = nil, nil, nil, nil, 0
	if s.gone != nil {
		close(s.gone)
	}
	s.mu.Unlock()
	s.waits.Wait()
	s.sayWhy(reason, attached)
	limit := flushTime
	if errors.Is(reason, errGone) {
		limit = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_ = s.out.Close(ctx) // an error means that the client did not read all
	s.logEnd(reason, c, attached)
}

// reasonOf is what there is to tell a client of err; nil for nothing.
func reasonOf(err error) *wire.Error {
	if err == nil {
		return nil // and allocate nothing
	}
	var e *wire.Error
	errors.As(err, &e)
	return e
}

// sayWhy appends the frame that tells the client why the session ends.
func (s *Session) sayWhy(reason error, attached bool) {
	e := reasonOf(reason)
	if e == nil {
		return
	}
	b, err := s.out.Begin(len(e.Text) + 32)
	if err != nil {
		return // it does not read
	}
	code := e.Code
	switch {
	case attached:
		b = wire.AppendBye(b, code, e.Text)
	case code == wire.CodeClosing: // relay.md 2.7: not a code of a refuse
		b = wire.AppendRefuse(b, wire.CodeNotReady, e.Text)
	default:
		b = wire.AppendRefuse(b, code, e.Text)
	}
	s.out.Commit(b)
}

// logEnd logs what an operator wants to know: a client that broke the rules
// after it was let in.
func (s *Session) logEnd(reason error, c Client, attached bool) {
	log := s.server.log.Debug
	if e := reasonOf(reason); attached && e != nil && e.Code != wire.CodeClosing {
		log = s.server.log.Info
	}
	log("client ended", "conn", c.Conn, "cluster", c.Cluster, "err", reason, "unanswered", c.Unanswered, "running", c.Running, "tunnels", c.Tunnels, "dropped", c.Dropped)
}

// describe tells about the session, and whether it is attached.
func (s *Session) describe() (c Client, attached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Client{
		Conn: s.id, Cluster: s.cluster,
		Unanswered: len(s.unanswered), Running: len(s.given), Subscriptions: len(s.topics), Tunnels: len(s.tunnels),
		Dropped: s.dropped.byReason(),
	}, s.welcomed
}

func (s *Session) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.welcomed && s.reason == nil
}

// settleLocked draws the conclusions when a request has ended: a service that
// drains may be drained, and a server that drains one session further.
func (s *Session) settleLocked() {
	if s.drain == finishing && len(s.given) == 0 && s.offered == 0 {
		s.drain = drained
		if b, err := s.out.Begin(smallFrame); err == nil { // else it does not read, which has consequences of its own
			s.out.Commit(wire.AppendDrained(b))
		}
	}
	if len(s.unanswered)+len(s.given)+len(s.tunnels) == 0 {
		s.server.sessionIdle()
	}
}
