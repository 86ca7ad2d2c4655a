// Package relay is the endpoint of a node where the applications of its host
// attach: the node's side of the relay protocol, spec/relay.md.
//
// Whatever attaches is untrusted. A Session is bounded in memory, in what it
// may have unanswered, and in how long it may be silent or not read; what it
// does wrong ends that session with a code and a reason, and nothing else. A
// session has one goroutine, its reader, which works in turns: it handles every
// frame that is in its input buffer, then flushes what it wrote, and only then
// waits. Nothing in the package waits for a client to read.
//
// The package does not know what is behind it: a Network gives each session a
// Port for what the client sends, and pushes what the client gets through the
// methods of its Session.
//
// A Server and the Push methods of a Session are safe for concurrent use.
package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/project-iris/iris/spec/wire"
)

// defaultConnections is how many connections a Server holds unless told.
const defaultConnections = 10_000

// Network is what the relay needs from the node behind it.
type Network interface {
	// Attach gives a session its port; cluster is the name under which it
	// serves, and empty for a client. The session is welcomed when joined is
	// closed (nil: at once), or after a second. An error refuses the client:
	// with the code of a *wire.Error, and as not ready with any other. Attach
	// must not wait. Pushes may begin before it returns.
	Attach(s *Session, cluster string) (p Port, joined <-chan struct{}, err error)
}

// Port is where a session's reader puts what its client sends. Only that one
// goroutine calls it. Byte slices are valid until the call returns, and but for
// Broadcast and Publish no call may wait for anything.
type Port interface {
	// Request is a request of the client, with an ID that none of its
	// unanswered ones has. Exactly one PushReply answers it.
	Request(r wire.Request)
	// Reply answers a request that was given to the client with PushRequest;
	// it comes at most once for each.
	Reply(r wire.Reply)
	// Cancel says that the client no longer wants the reply to its request id,
	// which is still unanswered and must still be answered.
	Cancel(id uint64)
	// Broadcast and Publish send a message on its way. They may wait, for some
	// seconds at most, where a way there has no room: other sessions do not notice.
	Broadcast(m wire.Broadcast) wire.Code
	Publish(m wire.Publish) wire.Code
	// Subscribe begins the events of a topic that the session does not have. The
	// channel is closed when that is effective everywhere; nil: the topic is not taken.
	Subscribe(topic []byte) <-chan struct{}
	// Unsubscribe ends them.
	Unsubscribe(topic []byte)
	// Open asks for a tunnel, with an id that none of the client's has. Exactly one
	// PushOpened or PushAbort answers it, maybe before Open returns.
	Open(o wire.Open) Tunnel
	// Drain takes the service out of its cluster; what runs goes on.
	Drain()
	// Flush ends the turn: the input is drained, and outputs that the calls
	// above appended to must be flushed now.
	Flush()
	// Close ends the session: nothing else is called after it. It comes
	// exactly once, and what the client was given and has not answered by then
	// is lost.
	Close()
}

// Config is what a Server needs.
type Config struct {
	Network Network
	// Limits are told to clients and enforced. If zero, wire.DefaultLimits.
	Limits wire.Limits
	// Info is told in the welcome.
	Info map[string]string
	// Connections is how many connections may be open. If zero, 10,000.
	Connections int
	// Log gets what an operator needs to know. If nil, nobody does.
	Log *slog.Logger
}

// A Server serves attached applications.
type Server struct {
	cfg      Config
	log      *slog.Logger
	done     chan struct{}  // closed by Close
	leaving  atomic.Bool    // set by Drain; written under mu
	settled  chan struct{}  // told when a session becomes idle while leaving
	refusing chan struct{}  // a slot for each connection being refused
	watching sync.Once      // starts the watch with the first Serve
	wg       sync.WaitGroup // sessions, refusals and the watch

	mu       sync.Mutex // guards the fields below
	closed   bool
	conns    uint64 // number of the latest connection
	sessions map[uint64]*Session
}

// New checks cfg. It starts nothing: see Serve.
func New(cfg Config) (*Server, error) {
	if cfg.Network == nil {
		return nil, errors.New("relay: Config.Network is missing")
	}
	if cfg.Connections < 0 {
		return nil, fmt.Errorf("relay: Config.Connections is %d: want at least 1, or 0 for %d", cfg.Connections, defaultConnections)
	}
	cfg.Connections = cmp.Or(cfg.Connections, defaultConnections)
	if cfg.Limits == (wire.Limits{}) {
		cfg.Limits = wire.DefaultLimits()
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("relay: Config.Limits: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg:      cfg,
		log:      cfg.Log,
		done:     make(chan struct{}),
		settled:  make(chan struct{}, 1),
		refusing: make(chan struct{}, maxRefusing),
		sessions: make(map[uint64]*Session),
	}, nil
}

// Client describes an attached application, for status.
type Client struct {
	Conn          uint64            // number of its connection, unique in the life of the Server
	Cluster       string            // the name it serves under; empty for a client
	Unanswered    int               // its own requests
	Running       int               // requests it was given
	Subscriptions int               // topics
	Tunnels       int               // open or being opened
	Dropped       map[string]uint64 // what it did not get because it is too slow: reply, event, broadcast; own messages not taken that wanted no outcome: refused
}

// Clients lists the attached applications in the order in which they came.
func (s *Server) Clients() []Client {
	var clients []Client
	for _, session := range s.all() {
		if c, attached := session.describe(); attached {
			clients = append(clients, c)
		}
	}
	slices.SortFunc(clients, func(a, b Client) int { return cmp.Compare(a.Conn, b.Conn) })
	return clients
}

// Drain tells all clients that the node is leaving, refuses new ones, gives
// services nothing more, and waits until no client has an unanswered request
// or a tunnel and no service runs a request, or ctx is done; then it returns the cause.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.leaving.Store(true)
	s.mu.Unlock()
	for _, session := range s.all() {
		session.pushLeaving()
	}
	for {
		busy := s.busy()
		if busy == 0 {
			s.sessionIdle() // another Drain may wait as well
			return nil
		}
		select {
		case <-s.settled:
		case <-s.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("relay: drain: %d clients have unfinished requests or tunnels: %w", busy, context.Cause(ctx))
		}
	}
}

// busy counts the sessions with unfinished requests.
func (s *Server) busy() int {
	n := 0
	for _, session := range s.all() {
		if c, _ := session.describe(); c.Unanswered+c.Running+c.Tunnels > 0 {
			n++
		}
	}
	return n
}

// sessionIdle lets Drain look again.
func (s *Server) sessionIdle() {
	if !s.leaving.Load() {
		return
	}
	select {
	case s.settled <- struct{}{}:
	default:
	}
}

// Close says bye to all sessions, ends them and everything that serves them,
// and waits; clients that do not read delay it by two seconds. Idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	for _, session := range s.all() {
		session.end(&wire.Error{Code: wire.CodeClosing, Text: "the node is closing"})
	}
	s.wg.Wait()
	return nil
}

// all is a snapshot of the sessions, in no order.
func (s *Server) all() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	sessions := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		sessions = append(sessions, session)
	}
	return sessions
}

// forget drops a session that has ended.
func (s *Server) forget(session *Session) {
	s.mu.Lock()
	delete(s.sessions, session.id)
	s.mu.Unlock()
	s.sessionIdle()
}

// admit takes a new connection, or turns it away.
func (s *Server) admit(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		_ = conn.Close()
	case s.leaving.Load():
		s.refuse(conn, wire.CodeNotReady, "the node is leaving")
	case len(s.sessions) >= s.cfg.Connections:
		s.refuse(conn, wire.CodeLimit, fmt.Sprintf("the node has %d connections: close some", len(s.sessions)))
	default:
		s.conns++
		session := newSession(s, conn, s.conns)
		s.sessions[session.id] = session
		s.wg.Go(session.run)
	}
}
