package iris_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
	"github.com/project-iris/iris/spec/wire"
)

func TestConnectTellsThatThereIsNoNode(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.node.Kill()
		_, err := iris.Connect(4711, w.options(nil)...)
		require.ErrorIs(w, err, iris.ErrNoNode)
		require.ErrorContains(w, err, "iris: connect to port 4711: no iris node: ")
		_, err = iris.Register(4711, "x", &handler{}, nil, w.options(nil)...)
		require.ErrorIs(w, err, iris.ErrNoNode)
	})
}

func TestConnectTellsWhyTheNodeRefuses(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.node.Refuse(wire.CodeLimit)
		_, err := iris.Connect(1, w.options(nil)...)
		require.ErrorIs(w, err, iris.ErrRefused)
		require.EqualError(w, err, "iris: connect to port 1: the node refused: limit: as the test says")
		var refused *iris.RefusedError
		require.ErrorAs(w, err, &refused)
		require.Equal(w, "limit", refused.Reason)
		require.Equal(w, "as the test says", refused.Message)
	})
}

func TestConnectDoesNotWaitForeverForAWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := iris.WithDialer(func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				b := make([]byte, 1000)
				for {
					if _, err := far.Read(b); err != nil {
						return
					}
				}
			}()
			return near, nil
		})
		began := time.Now()
		_, err := iris.Connect(1, silent)
		require.ErrorIs(t, err, iris.ErrNoNode)
		require.Equal(t, 10*time.Second, time.Since(began))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = iris.ConnectContext(ctx, 1, silent)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, iris.ErrCancelled)
	})
}

func TestConnectionOutlivesTheContextItWasMadeWith(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		conn, err := iris.ConnectContext(ctx, 1, w.options(nil)...)
		require.NoError(w, err)
		defer conn.Close()
		cancel()
		synctest.Wait()
		_, err = conn.Request(w.Context(), "nobody", nil)
		require.ErrorIs(w, err, iris.ErrNoService)
	})
}

func TestCloseFailsWhatIsInFlightAndLater(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		w.register("stuck", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}, nil)
		conn := w.connect()
		pending := ask(w.Context(), conn, "stuck", nil)
		synctest.Wait()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _ = conn.Close() })
		}
		wg.Wait()
		require.NoError(w, conn.Close())
		require.ErrorIs(w, (<-pending).err, iris.ErrClosed)
		_, err := conn.Request(w.Context(), "stuck", nil)
		require.ErrorIs(w, err, iris.ErrClosed)
		close(g.open)
	})
}

func TestLostNodeFailsRequestsInFlightAtOnce(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		w.register("stuck", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}, nil)
		pending := ask(w.Context(), w.connect(), "stuck", nil)
		synctest.Wait()
		w.node.Kill()
		a := <-pending
		require.ErrorIs(w, a.err, iris.ErrLost)
		require.Zero(w, a.took)
		close(g.open)
	})
}

func TestServiceRegistersAgainOnceAndRequestsWaitForIt(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		inits := 0
		h := &handler{
			init: func(*iris.Connection) error { inits++; return nil },
			drop: func(error) { w.Error("dropped") },
		}
		w.register("echo", h, nil)
		conn := w.connect()
		for round := 1; round <= 3; round++ {
			w.node.Kill()
			synctest.Wait()
			pending := ask(w.Context(), conn, "nobody", nil)
			impatient := <-ask(w.within(time.Second), conn, "echo", nil)
			require.ErrorIs(w, impatient.err, iris.ErrTimeout)
			time.AfterFunc(4*time.Second, w.node.Start)
			a := <-pending
			require.ErrorIs(w, a.err, iris.ErrNoService)
			require.Less(w, a.took, 6*time.Second+time.Millisecond, "the node is back after 5 s")
			time.Sleep(time.Second)
			require.Equal(w, 1, w.node.Members("echo"))
			require.Equal(w, 1+round, w.node.Hellos("echo"))
			reply, err := conn.Request(w.Context(), "echo", []byte("again"))
			require.NoError(w, err)
			require.Equal(w, "again", string(reply))
		}
		require.Equal(w, 1, inits)
	})
}

func TestHandlersOfALostSessionKeepTheirThreads(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		h := &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}
		w.register("slow", h, &iris.ServiceLimits{RequestThreads: 4, RequestQueue: 4})
		conn := w.connect()
		var old []<-chan answer
		for range 8 {
			old = append(old, ask(w.Context(), conn, "slow", nil))
		}
		synctest.Wait()
		w.node.Drop()
		for _, p := range old {
			require.ErrorIs(w, (<-p).err, iris.ErrLost)
		}
		time.Sleep(time.Second)
		var pending []<-chan answer
		for range 4 {
			pending = append(pending, ask(w.Context(), conn, "slow", nil))
		}
		synctest.Wait()
		require.Equal(w, 4, g.inside)
		a := <-ask(w.Context(), conn, "slow", nil)
		require.ErrorIs(w, a.err, iris.ErrOverloaded, "four still run, four wait")
		close(g.open)
		for _, p := range pending {
			require.NoError(w, (<-p).err)
		}
		require.Equal(w, 8, g.entered, "what waited on the lost session never ran")
		for range 20 { // all credit is back
			_, err := conn.Request(w.Context(), "slow", nil)
			require.NoError(w, err)
		}
	})
}

func TestHandlersLearnThatTheNodeIsLost(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		stopped := make(chan struct{})
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			<-ctx.Done()
			close(stopped)
			return nil, nil
		}}
		w.register("work", h, nil)
		ask(w.Context(), w.connect(), "work", nil)
		synctest.Wait()
		w.node.Kill()
		<-stopped
	})
}

func TestNodeThatStaysLostIsGivenUp(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		drops := make(chan error, 10)
		h := &handler{drop: func(reason error) { drops <- reason }}
		s := w.register("echo", h, nil)
		conn := w.connect()
		w.node.Kill()
		synctest.Wait()
		require.NoError(w, conn.Err(), "it is looked for")
		pending := ask(w.Context(), conn, "echo", nil)
		a := <-pending
		require.ErrorIs(w, a.err, iris.ErrNoNode)
		require.ErrorIs(w, a.err, iris.ErrClosed)
		require.Equal(w, 30*time.Second, a.took)
		require.ErrorIs(w, <-drops, iris.ErrNoNode)
		<-conn.Done()
		require.ErrorIs(w, conn.Err(), iris.ErrNoNode)
		require.ErrorIs(w, conn.Err(), iris.ErrClosed)
		w.node.Start()
		_, err := conn.Request(w.Context(), "echo", nil)
		require.ErrorIs(w, err, iris.ErrClosed)
		require.NoError(w, conn.Close())
		require.NoError(w, s.Unregister())
		time.Sleep(time.Minute)
		require.Empty(w, drops, "told once")
		require.Equal(w, 1, w.node.Hellos("echo"))
	})
}

func TestReconnectLimitIsHonoured(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		for _, limit := range []time.Duration{0, 3 * time.Second, time.Hour} {
			w.node.Start()
			dropped := make(chan time.Time, 1)
			h := &handler{drop: func(error) { dropped <- time.Now() }}
			w.register("echo", h, nil, iris.WithReconnect(limit))
			w.node.Kill()
			began := time.Now()
			require.Equal(w, limit, (<-dropped).Sub(began))
		}
	})
}

func TestDropMayUnregister(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var s *iris.Service
		dropped := make(chan error, 1)
		h := &handler{drop: func(error) { dropped <- s.Unregister() }}
		s = w.register("echo", h, nil, iris.WithReconnect(0))
		w.node.Kill()
		require.NoError(w, <-dropped)
		require.NoError(w, s.Unregister())
	})
}

func TestUnregisterOfALostServiceEndsAtOnceAndDropsNot(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		s := w.register("echo", &handler{drop: func(error) { w.Error("dropped") }}, nil)
		conn := w.connect()
		w.node.Kill()
		time.Sleep(5 * time.Second)
		began := time.Now()
		require.NoError(w, s.Unregister())
		require.NoError(w, conn.Close())
		require.Zero(w, time.Since(began))
		w.node.Start()
		time.Sleep(time.Minute)
		require.Equal(w, 1, w.node.Hellos("echo"))
	})
}

func TestRefusalThatWillNotPassGivesUp(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		dropped := make(chan error, 1)
		w.register("echo", &handler{drop: func(reason error) { dropped <- reason }}, nil)
		w.node.Refuse(wire.CodeNotReady)
		w.node.Drop()
		time.Sleep(5 * time.Second)
		require.Empty(w, dropped, "a node that starts is waited for")
		w.node.Refuse(wire.CodeName)
		reason := <-dropped
		require.ErrorIs(w, reason, iris.ErrRefused)
		require.ErrorIs(w, reason, iris.ErrClosed)
	})
}

func TestRequestsWaitWhileTheNodeIsLeavingAndThoseInFlightFinish(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("slow", &handler{handle: func(r []byte) ([]byte, error) {
			time.Sleep(2 * time.Second)
			return r, nil
		}}, nil)
		conn := w.connect()
		var pending []<-chan answer
		for range 5 {
			pending = append(pending, ask(w.Context(), conn, "slow", []byte("x")))
		}
		synctest.Wait()
		w.node.Leave()
		synctest.Wait()
		later := ask(w.Context(), conn, "nobody", nil)
		for _, p := range pending {
			require.NoError(w, (<-p).err)
		}
		time.Sleep(3 * time.Second)
		require.Empty(w, later)
		w.node.Start()
		require.ErrorIs(w, (<-later).err, iris.ErrNoService, "asked of the new node")
		time.Sleep(time.Second)
		_, err := conn.Request(w.Context(), "slow", nil)
		require.NoError(w, err)
	})
}

func TestRequestThatCrossesLeavingIsSentAgain(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{}, nil)
		conn := w.connect()
		for range 50 {
			pending := ask(w.Context(), conn, "echo", []byte("x"))
			w.node.Leave()
			synctest.Wait()
			w.node.Start()
			if a := <-pending; a.err != nil {
				require.ErrorIs(w, a.err, iris.ErrNoService, "the service may come back later")
			}
			time.Sleep(2 * time.Second)
		}
	})
}

func TestFrameThatIsNotAllowedEndsTheConnectionWithATypedError(t *testing.T) {
	for name, frame := range map[string][]byte{
		"unknown op":             {0xc4, 3, 0x91, 0xcc, 0xee},
		"no frame":               []byte("HTTP/1.1 400 Bad Request\r\n"),
		"length bomb":            {0xc6, 0xff, 0xff, 0xff, 0xff},
		"array bomb":             {0xc4, 5, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"a second welcome":       wire.AppendWelcome(nil, wire.Welcome{Version: 1, Limits: wire.DefaultLimits()}),
		"a hello":                wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1}),
		"credit for a service":   wire.AppendCredit(nil, wire.KindRequest, 1),
		"request without credit": wire.AppendRequest(nil, wire.Request{ID: 1, Cluster: []byte("idle")}),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, fakenode.Config{}, func(w *world) {
				dropped := make(chan error, 1)
				g := newGate()
				h := &handler{
					handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil },
					drop:   func(reason error) { dropped <- reason },
				}
				w.register("idle", h, &iris.ServiceLimits{RequestThreads: 1, RequestQueue: -1}, iris.WithReconnect(0))
				conn := w.connect(iris.WithReconnect(0))
				pending := ask(w.Context(), conn, "idle", nil)
				synctest.Wait()
				w.node.Inject(frame)
				require.ErrorIs(w, <-dropped, iris.ErrProtocol)
				a := <-pending
				require.ErrorIs(w, a.err, iris.ErrLost)
				require.ErrorIs(w, a.err, iris.ErrProtocol)
				synctest.Wait()
				require.Len(w, w.node.Byes(), 2, "the node is told")
				require.NotContains(w, w.node.Byes(), wire.CodeOK)
				close(g.open)
			})
		})
	}
}

func TestUnknownRepliesAndCancelsAreIgnored(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{}, nil)
		conn := w.connect()
		for _, id := range []uint64{0, 1, 1 << 20, 1<<64 - 1} {
			w.node.Inject(wire.AppendReply(nil, wire.Reply{ID: id, Payload: []byte("x")}))
		}
		synctest.Wait()
		reply, err := conn.Request(w.Context(), "echo", []byte("fine"))
		require.NoError(w, err)
		require.Equal(w, "fine", string(reply))
		require.Equal(w, 1, w.node.Hellos(""))
	})
}

func TestNodeThatKeepsFailingIsNotHammered(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var dials atomic.Int32
		dial := iris.WithDialer(func(ctx context.Context) (net.Conn, error) {
			if dials.Add(1) == 1 {
				return w.node.Dial(ctx)
			}
			conn, err := w.node.Dial(ctx)
			if err == nil {
				time.AfterFunc(time.Millisecond, func() { _ = conn.Close() }) // it welcomes, and breaks
			}
			return conn, err
		})
		conn := w.connect(dial)
		w.node.Drop()
		time.Sleep(60 * time.Second)
		require.Less(w, dials.Load(), int32(80))
		_, err := conn.Request(w.Context(), "nobody", nil)
		require.ErrorIs(w, err, iris.ErrClosed, "an outage is not over before a session lasts")
	})
}

func TestNodeThatDoesNotReadHoldsNobodyBeyondTheDeadline(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		stall := make(chan struct{})
		dial := iris.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := w.node.Dial(ctx)
			return &stallingConn{Conn: conn, stall: stall}, err
		})
		w.register("echo", &handler{}, nil)
		conn := w.connect(dial)
		_, err := conn.Request(w.Context(), "echo", nil)
		require.NoError(w, err)
		close(stall)
		var pending []<-chan answer
		for range 20 {
			pending = append(pending, ask(w.within(time.Second), conn, "echo", make([]byte, 1<<20)))
		}
		for _, p := range pending {
			a := <-p
			require.ErrorIs(w, a.err, iris.ErrTimeout)
			require.Equal(w, time.Second, a.took)
		}
		began := time.Now()
		require.NoError(w, conn.Close())
		require.LessOrEqual(w, time.Since(began), time.Second)
	})
}

// A stallingConn takes no bytes any more once stall is closed, until it is closed itself.
type stallingConn struct {
	net.Conn
	stall  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (c *stallingConn) init() { c.once.Do(func() { c.closed = make(chan struct{}) }) }

func (c *stallingConn) Write(b []byte) (int, error) {
	c.init()
	select {
	case <-c.stall:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Write(b)
	}
}

func (c *stallingConn) Close() error {
	c.init()
	close(c.closed)
	return c.Conn.Close()
}
