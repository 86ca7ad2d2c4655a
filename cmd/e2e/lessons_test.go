package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/spec/wire"
)

// Each test here is a way in which the first Iris failed its users; docs/lessons.md
// lists them all. They run between real nodes, through the SDK or raw frames.

// register registers a service until the test ends.
func register(t *testing.T, n *cluster.Node, name string, handler iris.ServiceHandler, limits *iris.ServiceLimits) {
	t.Helper()
	s, err := iris.Register(n.Port, name, handler, limits)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Unregister() })
}

// attachRaw attaches to a node without the SDK: no more than a hello and its welcome.
func attachRaw(t *testing.T, n *cluster.Node) (net.Conn, *wire.Reader) {
	t.Helper()
	conn, err := n.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write(wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1}))
	require.NoError(t, err)
	frames := wire.NewReader(conn, 1<<21)
	content, err := frames.Next()
	require.NoError(t, err)
	_, err = wire.ParseWelcome(content)
	require.NoError(t, err)
	return conn, frames
}

func TestLesson05ConfirmationOfAnUnknownTunnelHarmsNothing(t *testing.T) {
	c := startCluster(t, 1)
	conn, frames := attachRaw(t, c.Nodes[0])
	b := wire.AppendOpened(nil, wire.Opened{ID: wire.NodeTunnel | 77, Window: 9})
	_, err := conn.Write(wire.AppendPing(b, 5))
	require.NoError(t, err)
	content, err := frames.Next()
	require.NoError(t, err)
	token, err := wire.ParsePong(content)
	require.NoError(t, err)
	require.EqualValues(t, 5, token)
}

func TestLesson07AsManyHandlersRunAsWereAskedFor(t *testing.T) {
	const handlers = 200
	c := startCluster(t, 2)
	var running sync.WaitGroup
	running.Add(handlers)
	all := make(chan struct{})
	register(t, c.Nodes[0], "wide", &service{handle: func([]byte) ([]byte, error) {
		running.Done()
		<-all // nobody answers before all run
		return nil, nil
	}}, &iris.ServiceLimits{RequestThreads: handlers})
	conn := connect(t, c.Nodes[1])
	ctx := within(patience)
	failed := make(chan error, handlers)
	for range handlers {
		go func() {
			_, err := conn.Request(ctx, "wide", nil)
			failed <- err
		}()
	}
	go func() { running.Wait(); close(all) }()
	for range handlers {
		require.NoError(t, await(t, failed))
	}
}

// A drain receives a tunnel's messages until its end, and tells how many they were.
type drain struct {
	service
	got chan int
}

func (d *drain) HandleTunnel(t *iris.Tunnel) {
	n := 0
	for {
		if _, err := t.Recv(context.Background()); err != nil {
			d.got <- n
			return
		}
		n++
	}
}

func TestLesson08CloseDeliversEverythingThatWasSent(t *testing.T) {
	const rounds, messages = 20, 500
	c := startCluster(t, 2)
	d := &drain{got: make(chan int, 1)}
	register(t, c.Nodes[0], "drain", d, nil)
	conn := connect(t, c.Nodes[1])
	for range rounds {
		tunnel, err := conn.Tunnel(t.Context(), "drain")
		require.NoError(t, err)
		for i := range messages {
			require.NoError(t, tunnel.Send(t.Context(), make([]byte, i)))
		}
		require.NoError(t, tunnel.Close())
		require.Equal(t, messages, await(t, d.got))
	}
}

func TestLesson10NothingPublishedAfterSubscribeIsLost(t *testing.T) {
	const rounds, events = 20, 200
	c := startCluster(t, 2)
	same, other := connect(t, c.Nodes[0]), connect(t, c.Nodes[1])
	for round := range rounds {
		topic := fmt.Sprint("news-", round%5) // known to publishers from an earlier round, too
		l := &listener{}
		require.NoError(t, same.Subscribe(t.Context(), topic, l, nil))
		publisher := []*iris.Connection{same, other}[round%2]
		for i := range uint64(events) {
			require.NoError(t, publisher.Publish(t.Context(), topic, binary.BigEndian.AppendUint64(nil, i)))
		}
		require.Eventually(t, func() bool { return l.next.Load() == events }, patience, time.Millisecond, "round %d", round)
		require.Zero(t, l.wrong.Load())
		require.NoError(t, same.Unsubscribe(t.Context(), topic))
	}
}

func TestLesson11EventsOfOnePublisherComeInOrder(t *testing.T) {
	const events = 5_000
	c := startCluster(t, 2)
	l := &listener{}
	require.NoError(t, connect(t, c.Nodes[0]).Subscribe(t.Context(), "order", l, &iris.TopicLimits{EventThreads: 1}))
	conn := connect(t, c.Nodes[1])
	for i := range uint64(events) {
		require.NoError(t, conn.Publish(t.Context(), "order", binary.BigEndian.AppendUint64(nil, i)))
	}
	require.Eventually(t, func() bool { return l.next.Load() == events }, patience, time.Millisecond)
	require.Zero(t, l.wrong.Load())
}

func TestLesson12ErrorsOfSubscriptionsLeaveTheConnection(t *testing.T) {
	c := startCluster(t, 2)
	serve(t, c.Nodes[1], "echo", echo)
	conn := connect(t, c.Nodes[0])
	for range 200 {
		require.NoError(t, conn.Subscribe(t.Context(), "loop", &listener{}, nil))
		require.ErrorIs(t, conn.Subscribe(t.Context(), "loop", &listener{}, nil), iris.ErrInvalid)
		require.NoError(t, conn.Unsubscribe(t.Context(), "loop"))
		require.ErrorIs(t, conn.Unsubscribe(t.Context(), "loop"), iris.ErrInvalid)
	}
	// The node sees a client that breaks the rule the same way: the SDK only notices it earlier.
	raw, frames := attachRaw(t, c.Nodes[0])
	b := wire.AppendUnsubscribe(nil, 1, []byte("loop"))
	_, err := raw.Write(wire.AppendUnsubscribe(b, 2, []byte("loop")))
	require.NoError(t, err)
	for want := range uint64(2) {
		content, err := frames.Next()
		require.NoError(t, err)
		id, code, _, err := wire.ParseDone(content)
		require.NoError(t, err)
		require.Equal(t, want+1, id)
		require.Equal(t, wire.CodeInvalid, code)
	}
	_, err = conn.Request(t.Context(), "echo", nil)
	require.NoError(t, err)
}

func TestLesson13EmptyReplyAndEmptyErrorStayWhatTheyAre(t *testing.T) {
	c := startCluster(t, 2)
	serve(t, c.Nodes[0], "nothing", func([]byte) ([]byte, error) { return nil, nil })
	serve(t, c.Nodes[0], "silent", func([]byte) ([]byte, error) { return nil, errors.New("") })
	for _, n := range c.Nodes {
		conn := connect(t, n)
		reply, err := conn.Request(within(patience), "nothing", nil)
		require.NoError(t, err)
		require.Empty(t, reply)
		_, err = conn.Request(within(patience), "silent", nil)
		var remote *iris.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Empty(t, remote.Message)
	}
}

func TestLesson14UnknownClusterFailsAtOnce(t *testing.T) {
	c := startCluster(t, 2)
	conn := connect(t, c.Nodes[1])
	began := time.Now()
	_, err := conn.Request(within(10*time.Second), "nobody", nil)
	require.ErrorIs(t, err, iris.ErrNoService)
	_, err = conn.Tunnel(within(10*time.Second), "nobody")
	require.ErrorIs(t, err, iris.ErrNoService)
	require.Less(t, time.Since(began), 2*time.Second)
}

// A hop asks the next cluster with the time that is left to itself, and notes it.
type hop struct {
	service
	conn   *iris.Connection
	next   string
	budget chan time.Duration
}

func (h *hop) HandleRequestContext(ctx context.Context, r *iris.Request) (*iris.Reply, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, errors.New("no deadline has come")
	}
	h.budget <- time.Until(deadline)
	<-time.After(100 * time.Millisecond)
	if h.next == "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	payload, err := h.conn.Request(ctx, h.next, r.Payload)
	return &iris.Reply{Payload: payload}, err
}

func TestLesson15OneDeadlineHoldsAcrossAllHops(t *testing.T) {
	const whole = 500 * time.Millisecond
	c := startCluster(t, 3)
	var hops [3]*hop
	for i, next := range []string{"hop-1", "hop-2", ""} {
		hops[i] = &hop{conn: connect(t, c.Nodes[i]), next: next, budget: make(chan time.Duration, 1)}
		register(t, c.Nodes[i], fmt.Sprint("hop-", i), hops[i], nil)
	}
	conn := connect(t, c.Nodes[2])
	began := time.Now()
	_, err := conn.Request(within(whole), "hop-0", nil)
	took := time.Since(began)
	require.ErrorIs(t, err, iris.ErrTimeout)
	require.GreaterOrEqual(t, took, whole-5*time.Millisecond)
	require.Less(t, took, 2*whole, "the time is not given anew at each hop")
	for i, h := range hops {
		require.LessOrEqual(t, await(t, h.budget), whole-time.Duration(i)*100*time.Millisecond)
	}
}

func TestLesson17UnsubscribeNeverOvertakesSubscribe(t *testing.T) {
	c := startCluster(t, 2)
	conn, publisher := connect(t, c.Nodes[0]), connect(t, c.Nodes[1])
	for i := range 200 { // the last one stays
		require.NoError(t, conn.Subscribe(t.Context(), "flip", &listener{}, nil))
		if i%20 == 0 {
			require.NoError(t, publisher.Publish(t.Context(), "flip", make([]byte, 8)))
		}
		require.NoError(t, conn.Unsubscribe(t.Context(), "flip"))
	}
	_, err := c.Nodes[1].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return s.Topics == 0 })
	require.NoError(t, err, "the other node knows of no subscriber")
	last := &listener{}
	require.NoError(t, conn.Subscribe(t.Context(), "flip", last, nil))
	require.NoError(t, publisher.Publish(t.Context(), "flip", make([]byte, 8)))
	require.Eventually(t, func() bool { return last.next.Load() == 1 }, patience, time.Millisecond)
}

func TestLesson22CloseAndFriendsWorkFromAnywhere(t *testing.T) {
	c := startCluster(t, 2)
	conn, publisher := connect(t, c.Nodes[0]), connect(t, c.Nodes[1])
	left, closed := make(chan error, 1), make(chan error, 1)
	require.NoError(t, conn.Subscribe(t.Context(), "leave", handlerOf(func([]byte) {
		left <- conn.Unsubscribe(context.Background(), "leave") // within the handler of that topic
	}), nil))
	require.NoError(t, conn.Subscribe(t.Context(), "close", handlerOf(func([]byte) {
		closed <- errors.Join(conn.Close(), conn.Close())
	}), nil))
	require.NoError(t, publisher.Publish(t.Context(), "leave", nil))
	require.NoError(t, await(t, left))
	require.NoError(t, publisher.Publish(t.Context(), "close", nil))
	require.NoError(t, await(t, closed))

	// A client whose node is gone learns it, and can close at once, from many places.
	lost, err := iris.Connect(c.Nodes[0].Port, iris.WithReconnect(-1), iris.WithLogger(quiet))
	require.NoError(t, err)
	require.NoError(t, c.Nodes[0].Kill())
	_, err = lost.Request(within(patience), "any", nil)
	require.Error(t, err)
	began := time.Now()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { _ = lost.Close() })
	}
	all.Wait()
	require.Less(t, time.Since(began), time.Second)
}

// await yields what comes from a channel, within the patience of a test.
func await[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// handlerOf makes a handler of events of a function.
type handlerOf func([]byte)

func (h handlerOf) HandleEvent(event []byte) { h(event) }
