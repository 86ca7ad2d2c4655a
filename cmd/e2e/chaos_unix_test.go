//go:build unix

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/checker"
	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

var (
	chaosTime  = flag.Duration("chaos", 10*time.Second, "how long TestMixedLoadUnderFaults applies load")
	chaosNodes = flag.Int("chaos-nodes", 8, "how many nodes TestMixedLoadUnderFaults has; with more than 8, not all of them keep all groups")
	chaosSeed  = flag.Uint64("seed", 0, "seed of TestMixedLoadUnderFaults; 0: a random one")
)

const (
	chaosServices = 20 // two for each cluster
	chaosClients  = 20
	chaosTopics   = 4
	faultEvery    = 5 * time.Second
	deadline      = 2 * time.Second // of a request
	slack         = time.Second     // that an outcome may come late, on a busy machine
)

// TestMixedLoadUnderFaults plays all four patterns over some nodes while nodes are
// killed, stopped, ended and cut off, and checks the history:
//
//	go test ./cmd/e2e -run TestMixedLoadUnderFaults -v -args -chaos 10m
func TestMixedLoadUnderFaults(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay: go test ./cmd/e2e -run TestMixedLoadUnderFaults -args -chaos %v -seed %d", *chaosTime, seed)
	lab := newLab(t)
	c, err := cluster.Start(t.Context(), cluster.Config{Nodes: *chaosNodes, Binary: irisBinary, Prefix: lab.prefix})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, c)
		}
		require.NoError(t, c.Close())
	})
	require.NoError(t, c.AwaitPeers(t.Context(), patience))

	w := &chaos{t: t, history: checker.New(), nodes: c.Nodes}
	w.register()
	w.connect()
	ctx, stop := context.WithTimeout(t.Context(), *chaosTime)
	defer stop()
	var wg sync.WaitGroup
	for i := range w.clients {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { w.load(ctx, w.clients[i], rng) })
	}
	lab.faults(ctx, t, c.Nodes, rand.New(rand.NewPCG(seed, 1<<32)))
	wg.Wait()
	w.converges()
	w.close()

	counts := w.history.Counts()
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%-28s %d", name, counts[name])
	}
	require.NoError(t, w.history.Check())
	require.Positive(t, counts["request answered"])
	require.Positive(t, counts["delivered"])
	require.Positive(t, counts["tunnels closed"])
}

// chaos is the load and what is known of it.
type chaos struct {
	t        *testing.T
	history  *checker.History
	nodes    []*cluster.Node
	services []*iris.Service
	clients  []*chaosClient
}

// A chaosClient is one client with the numbers of what it has sent.
type chaosClient struct {
	id   uint64
	conn *iris.Connection

	mu   sync.Mutex // guards sent, and keeps numbers in the order of sending
	sent map[string]uint64
}

func clusterName(i int) string { return fmt.Sprintf("work-%d", i%(chaosServices/2)) }
func topicName(i int) string   { return fmt.Sprintf("topic-%d", i%chaosTopics) }

func (w *chaos) register() {
	for i := range chaosServices {
		n := w.nodes[(i+i/(chaosServices/2))%len(w.nodes)]
		h := &chaosService{history: w.history, id: w.history.ID(), name: clusterName(i)}
		s, err := iris.Register(n.Port, h.name, h, nil, iris.WithDialer(n.Dial), iris.WithLogger(quiet))
		require.NoError(w.t, err)
		w.services = append(w.services, s)
	}
}

func (w *chaos) connect() {
	for i := range chaosClients {
		n := w.nodes[i%len(w.nodes)]
		conn, err := iris.Connect(n.Port, iris.WithDialer(n.Dial), iris.WithLogger(quiet))
		require.NoError(w.t, err)
		c := &chaosClient{id: w.history.ID(), conn: conn, sent: map[string]uint64{}}
		for j := range 2 {
			topic := topicName(i + j)
			require.NoError(w.t, conn.Subscribe(w.t.Context(), topic, &chaosSubscriber{w.history, c.id, topic}, nil))
		}
		w.clients = append(w.clients, c)
	}
}

// load sends until ctx is done, and waits for every outcome.
func (w *chaos) load(ctx context.Context, c *chaosClient, rng *rand.Rand) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		name, topic := clusterName(rng.IntN(chaosServices)), topicName(rng.IntN(chaosTopics))
		switch n := rng.IntN(100); {
		case n < 60:
			wg.Go(func() { w.request(c, name) })
		case n < 80:
			w.oneWay(ctx, c, topic, c.conn.Publish)
		case n < 95:
			w.oneWay(ctx, c, name, c.conn.Broadcast)
		default:
			wg.Go(func() { w.tunnel(c, name) })
		}
	}
}

// number is a message that holds two numbers.
func number(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a), b)
}

func numbers(message []byte) (a, b uint64) {
	return binary.BigEndian.Uint64(message), binary.BigEndian.Uint64(message[8:])
}

func (w *chaos) request(c *chaosClient, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	id := w.history.Requested(deadline)
	_, err := c.conn.Request(ctx, name, number(id, 0))
	w.history.Ended(id, outcomeOf(err), slack)
}

// outcomeOf finds the type of an error.
func outcomeOf(err error) checker.Outcome {
	var remote *iris.RemoteError
	switch {
	case err == nil:
		return checker.Answered
	case errors.As(err, &remote):
		return checker.Failed
	}
	for typed, o := range map[error]checker.Outcome{
		iris.ErrTimeout: checker.Timeout, iris.ErrLost: checker.Lost, iris.ErrNoService: checker.NoService,
		iris.ErrOverloaded: checker.Overloaded, iris.ErrClosed: checker.Closed,
	} {
		if errors.Is(err, typed) {
			return o
		}
	}
	return checker.Untyped
}

// oneWay publishes or broadcasts the next number of this client under name.
func (w *chaos) oneWay(ctx context.Context, c *chaosClient, name string, send func(context.Context, string, []byte, ...iris.MessageOption) error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[name]++
	if err := send(ctx, name, number(c.id, c.sent[name])); err != nil {
		w.history.Count("one-way " + string(outcomeOf(err)))
		return
	}
	w.history.Count("one-way sent")
}

// tunnel sends some messages through a tunnel of its own and closes it.
func (w *chaos) tunnel(c *chaosClient, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	t, err := c.conn.Tunnel(ctx, name)
	if err != nil {
		w.history.Count("tunnel not opened: " + string(outcomeOf(err)))
		return
	}
	id := w.history.ID()
	for i := range uint64(20) {
		w.history.TunnelSent(id, i+1)
		if err := t.Send(ctx, append(number(id, i+1), make([]byte, i*1000)...)); err != nil {
			w.history.Count("tunnel broken: " + string(outcomeOf(err)))
			_ = t.Abort("broken")
			return
		}
	}
	if err := t.Close(); err != nil {
		w.history.Count("tunnel broken: " + string(outcomeOf(err)))
		return
	}
	w.history.TunnelClosed(id)
}

// converges requires that every client reaches every cluster again.
func (w *chaos) converges() {
	for _, c := range w.clients {
		for i := range chaosServices / 2 {
			require.Eventually(w.t, func() bool {
				ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
				defer cancel()
				_, err := c.conn.Request(ctx, clusterName(i), nil)
				return err == nil
			}, patience, 20*time.Millisecond, "client %d, cluster %d", c.id, i)
		}
	}
}

func (w *chaos) close() {
	for _, c := range w.clients {
		require.NoError(w.t, c.conn.Close())
	}
	for _, s := range w.services {
		require.NoError(w.t, s.Unregister())
	}
}

// A chaosService notes what it is given.
type chaosService struct {
	history *checker.History
	id      uint64
	name    string
	calls   atomic.Uint64
}

func (s *chaosService) Init(*iris.Connection) error { return nil }

// HandleRequest takes up to some milliseconds.
func (s *chaosService) HandleRequest(request []byte) ([]byte, error) {
	if len(request) > 0 {
		id, _ := numbers(request)
		s.history.Executed(id)
	}
	<-time.After(time.Duration(s.calls.Add(1)%5) * time.Millisecond)
	return request, nil
}

func (s *chaosService) HandleBroadcast(message []byte) {
	sender, sequence := numbers(message)
	s.history.Delivered(s.id, sender, s.name, sequence)
}

func (s *chaosService) HandleTunnel(t *iris.Tunnel) {
	for {
		message, err := t.Recv(context.Background())
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = t.Close()
			}
			return
		}
		s.history.TunnelReceived(numbers(message))
	}
}

func (s *chaosService) HandleDrop(reason error) {
	s.history.Count("service dropped: " + reason.Error())
}

// A chaosSubscriber notes what it hears.
type chaosSubscriber struct {
	history *checker.History
	id      uint64
	topic   string
}

func (s *chaosSubscriber) HandleEvent(event []byte) {
	sender, sequence := numbers(event)
	s.history.Delivered(s.id, sender, s.topic, sequence)
}
