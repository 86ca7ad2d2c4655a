package iris

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// unregisterTimeout bounds Unregister.
const unregisterTimeout = 10 * time.Second

// A ServiceHandler is what a program implements to serve. Its methods may be
// called concurrently.
type ServiceHandler interface {
	// Init is called once, by Register, before the first request is taken. conn
	// works already and is the service's own for as long as it is registered. An
	// error makes Register fail.
	Init(conn *Connection) error

	// HandleRequest answers one request. The slice is the handler's to keep, and
	// the reply may be it. An empty reply is a reply. An error reaches the
	// requester as a RemoteError of its text, a panic as one of a general text. At
	// most ServiceLimits.RequestThreads run at once.
	HandleRequest(request []byte) ([]byte, error)

	// HandleBroadcast gets a message to all members of the cluster. The slice is
	// the handler's to keep. At most ServiceLimits.BroadcastThreads run at once.
	HandleBroadcast(message []byte)

	// HandleTunnel gets a tunnel that was opened to this member and is accepted
	// already. It runs in a goroutine of its own for as long as it wants the tunnel,
	// which is closed when it returns, and aborted when it panics. At most
	// ServiceLimits.TunnelThreads run at once.
	HandleTunnel(tunnel *Tunnel)

	// HandleDrop is called once if the node is lost and given up; reason says why.
	// It is not called after Unregister, Abort or Close.
	HandleDrop(reason error)
}

// A RequestContextHandler is a ServiceHandler that sees more of a request; it is
// called instead of HandleRequest.
type RequestContextHandler interface {
	// HandleRequestContext answers one request as HandleRequest does; a nil reply is
	// an empty one. Headers beyond the limits of WithHeaders are an error. ctx ends with
	// the request's deadline, when the requester gives up, when the node is lost,
	// and when the handler returns.
	HandleRequestContext(ctx context.Context, request *Request) (*Reply, error)
}

// A BroadcastMessageHandler is a ServiceHandler that sees more of a broadcast; it is
// called instead of HandleBroadcast.
type BroadcastMessageHandler interface {
	// HandleBroadcastMessage gets one broadcast as HandleBroadcast does.
	HandleBroadcastMessage(message *Message)
}

// A Service is a member of a cluster. Safe for concurrent use.
type Service struct {
	conn    *Connection
	handler ServiceHandler
	context RequestContextHandler // nil: handler has no such method
	work    *work
	late    sync.WaitGroup // replies that are held back

	broadcasts broadcasts
	tunnels    atomic.Int64 // handlers that run
	maxTunnels int64

	takesTunnels atomic.Bool // Init is done

	ending  sync.Once
	aborted chan struct{} // closed by Abort
	abort   sync.Once
	ended   chan struct{} // closed when finish has ended
}

// Register joins the cluster with a service that handler implements, at the node
// at port. limits may be nil for the defaults. When Register returns, the
// service takes requests. It waits at most 10 seconds, not counting Init. The
// error is ErrNoNode, ErrRefused, ErrProtocol or Init's own.
func Register(port int, cluster string, handler ServiceHandler, limits *ServiceLimits, opts ...Option) (*Service, error) {
	return RegisterContext(context.Background(), port, cluster, handler, limits, opts...)
}

// RegisterContext is Register bounded by ctx as well; the end of ctx means
// nothing to the service that it returned.
func RegisterContext(ctx context.Context, port int, cluster string, handler ServiceHandler, limits *ServiceLimits, opts ...Option) (*Service, error) {
	s, err := register(ctx, port, cluster, handler, limits, opts)
	if err != nil {
		return nil, wrap(fmt.Sprintf("register %q at port %d", cluster, port), err)
	}
	return s, nil
}

func register(ctx context.Context, port int, cluster string, handler ServiceHandler, limits *ServiceLimits, opts []Option) (*Service, error) {
	if cluster == "" {
		return nil, fmt.Errorf("%w: the name is empty", ErrInvalid)
	}
	s := &Service{handler: handler, aborted: make(chan struct{}), ended: make(chan struct{})}
	s.context, _ = handler.(RequestContextHandler)
	l := limits.resolve()
	s.work = newWork(l, func(t *task) { go s.serve(t) })
	s.conn = newConnection(port, opts)
	s.conn.cluster, s.conn.service = cluster, s
	s.broadcasts.init(s, l)
	s.maxTunnels = int64(l.TunnelThreads)
	if err := s.conn.open(ctx); err != nil {
		return nil, err
	}
	if err := handler.Init(s.conn); err != nil {
		s.Abort()
		<-s.conn.done
		return nil, fmt.Errorf("init: %w", err)
	}
	if err := s.begin(ctx); err != nil {
		s.Abort()
		<-s.conn.done
		return nil, err
	}
	return s, nil
}

// begin lets requests in, on the present session and all later ones, and waits
// until the node knows.
func (s *Service) begin(ctx context.Context) error {
	s.work.open()
	s.broadcasts.open()
	s.takesTunnels.Store(true)
	s.conn.mu.Lock()
	session, err := s.conn.session, s.conn.err
	s.conn.registered = err == nil
	s.conn.mu.Unlock()
	if session == nil {
		return err
	}
	s.grant(session)
	bounded, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	switch unsure := session.confirm(bounded); {
	case unsure == nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: no pong within %v", ErrNoNode, attachTimeout)
}

// grant lets requests and broadcasts in on a session, once Init is done.
func (s *Service) grant(session *session) {
	s.broadcasts.grant(session, s.broadcasts.begin(session))
	n := s.work.begin(session)
	if n == 0 {
		return
	}
	// An error is the end of the session, which its reader notices.
	_ = session.write(context.Background(), ctlSize, func(b []byte) []byte {
		return wire.AppendCredit(b, wire.KindRequest, uint32(n))
	})
}

// lost takes note that a session has ended.
func (s *Service) lost(session *session) {
	s.work.lost(session)
	s.broadcasts.lost(session)
}

// Unregister leaves the cluster: nothing new is taken, what was taken is handled,
// subscriptions end, running handlers finish, those of tunnels included, and the
// connection is closed. After 10 seconds, Shutdown with a context
// says otherwise, it is ended as by Abort and the error is ErrTimeout; otherwise the
// error is nil, also when the node was lost before.
//
// Idempotent: every caller waits for the same end. Called within a
// handler it returns nil at once and the rest happens by itself, because that
// handler is one of those to wait for.
func (s *Service) Unregister() error {
	ctx, cancel := context.WithTimeout(context.Background(), unregisterTimeout)
	if insideHandler() {
		go func() { // ends with the service; a later Unregister waits for that
			defer cancel()
			_ = s.shutdown(ctx)
		}()
		return nil
	}
	defer cancel()
	return s.shutdown(ctx)
}

// Shutdown is Unregister bounded by ctx instead of 10 seconds. It waits even
// within a handler.
func (s *Service) Shutdown(ctx context.Context) error { return s.shutdown(ctx) }

func (s *Service) shutdown(ctx context.Context) error {
	s.ending.Do(func() { go s.finish() })
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	s.Abort()
	return contextFailure(fmt.Sprintf("unregister %q: handlers still run", s.conn.cluster), ctx.Err())
}

// finish drains the service and closes its connection. relay.md 6.2.
func (s *Service) finish() {
	defer close(s.ended)
	if session := s.conn.drain(); session != nil {
		s.withdraw(session)
	}
	s.conn.topics.stop()
	select {
	case <-s.work.awaitIdle():
		defer s.late.Wait() // they end with the session
	case <-s.aborted:
	}
	select {
	case <-s.conn.crew.awaitIdle():
	case <-s.aborted:
	}
	s.conn.shut(ErrClosed, wire.AppendBye(nil, wire.CodeOK, ""))
	select {
	case <-s.conn.done:
	case <-s.aborted:
	}
}

// withdraw tells the node to send no more requests and waits until it does not.
func (s *Service) withdraw(session *session) {
	if err := session.write(context.Background(), ctlSize, wire.AppendDrain); err != nil {
		return
	}
	select {
	case <-session.drained:
	case <-session.ended:
	case <-s.aborted:
	}
}

// Abort ends the service at once, without waiting for its handlers: their
// contexts are cancelled, their replies go nowhere, and their requesters get
// ErrLost. Idempotent, and callable from handlers.
func (s *Service) Abort() {
	s.abort.Do(func() {
		close(s.aborted)
		s.broadcasts.close()
		s.conn.drain()
		s.conn.shut(ErrClosed, nil)
	})
}

// drop tells the application that the node was given up.
func (s *Service) drop(reason error) {
	guard(s.conn.log, "HandleDrop", func() { s.handler.HandleDrop(reason) })
}
