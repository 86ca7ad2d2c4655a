package relay

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func TestNewWantsANetwork(t *testing.T) {
	_, err := New(Config{})
	require.ErrorContains(t, err, "Network")
	_, err = New(Config{Network: newFakeNetwork(), Connections: -1})
	require.ErrorContains(t, err, "Connections")
}

func TestAcceptErrorsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		for range 12 {
			l.errs = append(l.errs, &net.OpError{Op: "accept", Err: syscall.EMFILE})
		}
		began := time.Now()
		w := newWorldAt(t, Config{}, l, l.dial)
		w.virtual = true
		w.attach("").echo(1)
		require.InDelta(t, 6*time.Second, time.Since(began), float64(2*time.Second), "pauses grow to a second")
	})
}

func TestServeEndsWithItsContextAndSessionsGoOn(t *testing.T) {
	w := newWorld(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served error
	wg.Go(func() { served = w.server.Serve(ctx, l) })
	w.dial = func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		return conn
	}
	c := w.attach("")

	cancel()
	wg.Wait()

	require.NoError(t, served)
	c.echo(1)
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
	c.kill()
}

func TestServeAfterCloseEndsAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	require.NoError(t, w.server.Close())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, w.server.Serve(t.Context(), l))
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
}

func TestServeTellsOfAListenerClosedByOthers(t *testing.T) {
	w := newWorld(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, w.server.Serve(t.Context(), l), net.ErrClosed)
}

func TestCloseSaysByeAndIsIdempotent(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(request(1, "hold", ""))
	c.sync()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { _ = w.server.Close() })
	}
	c.expectBye(wire.CodeClosing)
	wg.Wait()
	require.Empty(t, w.server.Clients())
	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.closes }))
}

func TestCloseWaitsForClientsThatDoNotReadButNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.attach("")
		w.raw()
		began := time.Now()
		require.NoError(t, w.server.Close())
		require.Equal(t, flushTime, time.Since(began))
	})
}

func TestCloseWhileAServiceJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.joined = make(chan struct{})
		c := w.raw()
		c.send(hello("demo"))
		synctest.Wait()
		go func() { _ = w.server.Close() }()
		c.expectRefuse(wire.CodeNotReady)
		synctest.Wait()
		require.Equal(t, 1, w.network.port(0).closes)
	})
}

func TestDrainWaitsForRequestsAndRefusesNewClients(t *testing.T) {
	w := newWorld(t, Config{})
	service, c := w.serve("demo", 10), w.attach("")
	c.send(request(1, "demo", ""))
	id := service.expectRequest().ID
	drained := make(chan error, 1)

	go func() { drained <- w.server.Drain(context.Background()) }()

	service.expect(wire.OpLeaving)
	c.expect(wire.OpLeaving)
	w.raw().expectRefuse(wire.CodeNotReady)
	c.send(request(2, "echo", ""))
	c.expectReply(2, wire.CodeClosing)
	require.Empty(t, drained)
	require.False(t, w.network.port(0).session.PushRequest(wire.Request{ID: 99}), "a service of a leaving node was given a request")
	service.send(reply(id, "done"))
	require.Equal(t, "done", string(c.expectReply(1, wire.CodeOK).Payload))
	require.NoError(t, <-drained)
	require.NoError(t, w.server.Drain(t.Context()), "a second drain")
}

func TestDrainEndsWhenTheLastBusyClientGoes(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(request(1, "hold", ""))
	c.sync()
	drained := make(chan error, 1)
	go func() { drained <- w.server.Drain(context.Background()) }()
	c.expect(wire.OpLeaving)
	c.kill()
	require.NoError(t, <-drained)
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		c.send(request(1, "hold", ""))
		c.sync()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := w.server.Drain(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "1 client")
	})
}

func TestDrainRefusesAServiceThatIsJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.joined = make(chan struct{})
		c := w.raw()
		c.send(hello("demo"))
		synctest.Wait()
		require.NoError(t, w.server.Drain(t.Context()))
		c.expectRefuse(wire.CodeNotReady)
	})
}

func TestPushesAreSafeWhileTheSessionEnds(t *testing.T) {
	w := newWorld(t, Config{})
	for range 20 {
		c := w.serve("demo", 1000)
		c.send(request(1, "hold", ""))
		session := w.network.port(len(w.network.ports) - 1).session
		var wg sync.WaitGroup
		for g := range uint64(4) {
			wg.Go(func() {
				for id := range uint64(200) {
					session.PushRequest(wire.Request{ID: g<<32 | id})
					session.PushCancel(g<<32 | id)
					session.PushReply(wire.Reply{ID: id})
					session.Flush()
				}
			})
		}
		c.kill()
		wg.Wait()
		w.none()
		require.False(t, session.PushRequest(wire.Request{ID: 1}))
		session.PushReply(wire.Reply{ID: 1})
		session.PushCancel(1)
		session.Flush()
	}
}
