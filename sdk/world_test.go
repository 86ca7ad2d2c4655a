package iris_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

// A world is a fake node in virtual time.
type world struct {
	*testing.T
	node *fakenode.Node
}

// inWorld plays a story in a bubble; nothing may be left running at its end.
func inWorld(t *testing.T, cfg fakenode.Config, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t, fakenode.New(cfg)}
		t.Cleanup(w.node.Close)
		story(w)
	})
}

func (w *world) options(more []iris.Option) []iris.Option {
	quiet := iris.WithLogger(slog.New(slog.DiscardHandler))
	return append([]iris.Option{iris.WithDialer(w.node.Dial), quiet}, more...)
}

func (w *world) connect(opts ...iris.Option) *iris.Connection {
	w.Helper()
	conn, err := iris.Connect(1, w.options(opts)...)
	require.NoError(w, err)
	w.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) register(cluster string, h iris.ServiceHandler, limits *iris.ServiceLimits, opts ...iris.Option) *iris.Service {
	w.Helper()
	s, err := iris.Register(1, cluster, h, limits, w.options(opts)...)
	require.NoError(w, err)
	w.Cleanup(s.Abort)
	synctest.Wait()
	return s
}

// within is a context of the story's with a deadline.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), d)
	w.Cleanup(cancel)
	return ctx
}

// A handler serves with functions; those that are nil do nothing.
type handler struct {
	init   func(*iris.Connection) error
	handle func([]byte) ([]byte, error)
	drop   func(error)

	broadcast func([]byte)
	tunnel    func(*iris.Tunnel)
}

func (h *handler) Init(conn *iris.Connection) error {
	if h.init == nil {
		return nil
	}
	return h.init(conn)
}

func (h *handler) HandleRequest(request []byte) ([]byte, error) {
	if h.handle == nil {
		return request, nil
	}
	return h.handle(request)
}

func (h *handler) HandleBroadcast(message []byte) {
	if h.broadcast != nil {
		h.broadcast(message)
	}
}

func (h *handler) HandleTunnel(tunnel *iris.Tunnel) {
	if h.tunnel != nil {
		h.tunnel(tunnel)
	}
}

// A topicFunc handles events.
type topicFunc func(event []byte)

func (f topicFunc) HandleEvent(event []byte) { f(event) }

func (h *handler) HandleDrop(reason error) {
	if h.drop != nil {
		h.drop(reason)
	}
}

// A contextHandler serves with a function that sees the whole request.
type contextHandler struct {
	handler
	serve   func(context.Context, *iris.Request) ([]byte, error)
	headers map[string]string // of replies
}

func (h *contextHandler) HandleRequestContext(ctx context.Context, r *iris.Request) (*iris.Reply, error) {
	payload, err := h.serve(ctx, r)
	return &iris.Reply{Payload: payload, Headers: h.headers}, err
}

// A gate counts who passes it and holds them until it is opened.
type gate struct {
	mu      sync.Mutex
	inside  int
	most    int
	entered int
	open    chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) pass() {
	g.mu.Lock()
	g.inside++
	g.entered++
	g.most = max(g.most, g.inside)
	g.mu.Unlock()
	<-g.open
	g.mu.Lock()
	g.inside--
	g.mu.Unlock()
}

// An answer is how a request ended.
type answer struct {
	reply []byte
	err   error
	took  time.Duration
}

// ask makes a request in the background.
func ask(ctx context.Context, conn *iris.Connection, cluster string, payload []byte) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		began := time.Now()
		reply, err := conn.Request(ctx, cluster, payload)
		done <- answer{reply, err, time.Since(began)}
	}()
	return done
}
