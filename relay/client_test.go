package relay

import (
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

// A world is a server with a fakeNetwork behind it.
type world struct {
	t       testing.TB
	server  *Server
	network *fakeNetwork
	dial    func() net.Conn
	virtual bool // time is, so that waiting for ever is noticed
}

// newWorld serves at a Unix socket until the test ends.
func newWorld(t testing.TB, cfg Config) *world {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	return newWorldAt(t, cfg, l, func() net.Conn {
		conn, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		return conn
	})
}

// newPipeWorld serves connections in memory, whose time can be virtual.
func newPipeWorld(t testing.TB, cfg Config) *world {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	w := newWorldAt(t, cfg, l, l.dial)
	w.virtual = true
	return w
}

func newWorldAt(t testing.TB, cfg Config, l net.Listener, dial func() net.Conn) *world {
	w := &world{t: t, network: newFakeNetwork()}
	cfg.Network = w.network
	var err error
	w.server, err = New(cfg)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.server.Serve(t.Context(), l) })
	t.Cleanup(func() {
		require.NoError(t, w.server.Close())
		wg.Wait()
	})
	w.dial = func() net.Conn {
		conn := dial()
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return w
}

// A pipeListener accepts the far ends of net.Pipe.
type pipeListener struct {
	conns  chan net.Conn
	errs   []error // returned first, one by one
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l.conns <- far
	return near
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A client is a program at the other end of a session.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *wire.Reader
}

// raw is a client that has said nothing yet.
func (w *world) raw() *client {
	conn := w.dial()
	if !w.virtual {
		require.NoError(w.t, conn.SetReadDeadline(time.Now().Add(patience)))
	}
	return &client{w.t, conn, wire.NewReader(conn, 64<<20)}
}

// attach is a client that was welcomed; cluster is empty for one that serves nothing.
func (w *world) attach(cluster string) *client {
	c := w.raw()
	c.attachAs(cluster)
	return c
}

func (c *client) attachAs(cluster string) {
	c.t.Helper()
	c.send(hello(cluster))
	c.expect(wire.OpWelcome)
}

// serve is a service with credit.
func (w *world) serve(cluster string, credit uint32) *client {
	c := w.attach(cluster)
	c.send(wire.AppendCredit(nil, wire.KindRequest, credit))
	c.sync()
	return c
}

// limitRequests are the default limits but for the number of requests.
func limitRequests(n uint64) wire.Limits {
	limits := wire.DefaultLimits()
	limits.Requests = n
	return limits
}

func hello(cluster string) []byte {
	return wire.AppendHello(nil, wire.Hello{Min: wire.Version, Max: wire.Version, Cluster: []byte(cluster)})
}

func request(id uint64, cluster, payload string) []byte {
	return wire.AppendRequest(nil, wire.Request{ID: id, Cluster: []byte(cluster), Budget: 1000, Payload: []byte(payload)})
}

func reply(id uint64, payload string) []byte {
	return wire.AppendReply(nil, wire.Reply{ID: id, Payload: []byte(payload)})
}

// frame makes a frame of any content.
func frame(content ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xc6}, uint32(len(content))), content...)
}

func (c *client) send(frames ...[]byte) {
	c.t.Helper()
	var all []byte
	for _, f := range frames {
		all = append(all, f...)
	}
	_, err := c.conn.Write(all)
	require.NoError(c.t, err)
}

// sync returns when the session has handled what was sent before.
func (c *client) sync() {
	c.t.Helper()
	c.send(wire.AppendPing(nil, 4711))
	token, err := wire.ParsePong(c.expect(wire.OpPong))
	require.NoError(c.t, err)
	require.EqualValues(c.t, 4711, token)
}

// expect reads the next frame, which must be an op.
func (c *client) expect(op wire.Op) []byte {
	c.t.Helper()
	content, err := c.in.Next()
	require.NoError(c.t, err, "want %v", op)
	got, err := wire.ParseOp(content)
	require.NoError(c.t, err)
	require.Equal(c.t, op, got)
	return content
}

func (c *client) expectRequest() wire.Request {
	c.t.Helper()
	r, err := wire.ParseRequest(c.expect(wire.OpRequest))
	require.NoError(c.t, err)
	return r
}

// expectReply reads the outcome of request id.
func (c *client) expectReply(id uint64, code wire.Code) wire.Reply {
	c.t.Helper()
	r, err := wire.ParseReply(c.expect(wire.OpReply))
	require.NoError(c.t, err)
	require.Equal(c.t, id, r.ID)
	require.Equal(c.t, code, r.Code, "%s", r.Text)
	return r
}

// expectBye wants the session to end with a reason.
func (c *client) expectBye(code wire.Code) {
	c.t.Helper()
	got, text, err := wire.ParseBye(c.expect(wire.OpBye))
	require.NoError(c.t, err)
	require.Equal(c.t, code, got, text)
	require.NotEmpty(c.t, text)
	c.expectEnd()
}

// expectRefuse wants the client not to be let in.
func (c *client) expectRefuse(code wire.Code) {
	c.t.Helper()
	got, text, err := wire.ParseRefuse(c.expect(wire.OpRefuse))
	require.NoError(c.t, err)
	require.Equal(c.t, code, got, text)
	require.NotEmpty(c.t, text)
	c.expectEnd()
}

// expectEndNamed wants a bye or a refuse with the code of that name. Services
// are told other things before.
func (c *client) expectEndNamed(code string) {
	c.t.Helper()
	for {
		content, err := c.in.Next()
		require.NoError(c.t, err)
		op, err := wire.ParseOp(content)
		require.NoError(c.t, err)
		var got wire.Code
		switch op {
		case wire.OpBye:
			got, _, err = wire.ParseBye(content)
		case wire.OpRefuse:
			got, _, err = wire.ParseRefuse(content)
		default:
			continue
		}
		require.NoError(c.t, err)
		require.Equal(c.t, code, got.String())
		c.expectEnd()
		return
	}
}

// expectEnd wants the connection to be closed.
func (c *client) expectEnd() {
	c.t.Helper()
	_, err := c.in.Next()
	var timeout net.Error
	require.Error(c.t, err)
	require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}

// echo shows that the client is served.
func (c *client) echo(id uint64) {
	c.t.Helper()
	c.send(request(id, "echo", "hi"))
	require.Equal(c.t, "hi", string(c.expectReply(id, wire.CodeOK).Payload))
}

// kill ends the connection without a word.
func (c *client) kill() { require.NoError(c.t, c.conn.Close()) }

// eventually waits for what other goroutines bring about. It starts none itself:
// the condition may count them.
func (w *world) eventually(condition func() bool, what string) {
	w.t.Helper()
	for deadline := time.After(patience); !condition(); {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			require.FailNow(w.t, what)
		}
	}
}

// none waits until no session is left.
func (w *world) none() {
	w.t.Helper()
	w.eventually(func() bool { return len(w.server.all()) == 0 }, "sessions are left")
}
