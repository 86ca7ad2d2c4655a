package e2e

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
	"github.com/project-iris/iris/spec/wire"
)

// A listener notes the events that it gets, in order: each holds its number and
// when it was sent.
type listener struct {
	next  atomic.Int64
	wrong atomic.Int64
	late  []time.Duration // how long each took; nil: not measured
	since time.Time       // the events' times count from there
}

func (l *listener) HandleEvent(event []byte) {
	if l.late != nil {
		l.late = append(l.late, time.Since(l.since)-time.Duration(binary.BigEndian.Uint64(event[8:])))
	}
	if int64(binary.BigEndian.Uint64(event)) != l.next.Add(1)-1 {
		l.wrong.Add(1)
	}
}

// neverRead subscribes without the SDK, asks for all events, and reads none of them.
func neverRead(t *testing.T, n *cluster.Node, topic string) {
	t.Helper()
	conn, frames := attachRaw(t, n)
	b := wire.AppendCredit(nil, wire.KindEvent, wire.MaxCredit)
	_, err := conn.Write(wire.AppendSubscribe(b, 1, []byte(topic)))
	require.NoError(t, err)
	_, err = frames.Next() // it is subscribed
	require.NoError(t, err)
}

// publishSteadily publishes events at a rate, to healthy subscribers on both nodes, and
// returns what 99 of 100 deliveries took at most. All of them arrive, in order.
func publishSteadily(t *testing.T, c *cluster.Cluster, topic string, healthy, events int) time.Duration {
	t.Helper()
	const burst = 20 // every millisecond
	listeners := make([]listener, healthy)
	since := time.Now()
	for i := range listeners {
		listeners[i].late, listeners[i].since = make([]time.Duration, 0, events), since
		require.NoError(t, connect(t, c.Nodes[i%2]).Subscribe(t.Context(), topic, &listeners[i], nil))
	}
	conn := connect(t, c.Nodes[1])
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for i := range uint64(events) {
		if i%burst == 0 {
			<-ticker.C
		}
		event := binary.BigEndian.AppendUint64(nil, i)
		require.NoError(t, conn.Publish(t.Context(), topic, binary.BigEndian.AppendUint64(event, uint64(time.Since(since)))))
	}
	var all []time.Duration
	for i := range listeners {
		require.Eventually(t, func() bool { return listeners[i].next.Load() >= int64(events) }, patience, 5*time.Millisecond)
		require.Zero(t, listeners[i].wrong.Load(), "listener %d: out of order, or missed", i)
		all = append(all, listeners[i].late...)
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

func TestSubscriberThatNeverReadsHarmsNobodyElse(t *testing.T) {
	const rounds, healthy, events = 3, 10, 20_000 // a second of each
	c := startCluster(t, 2)
	var without, with []time.Duration
	for round := range rounds {
		without = append(without, publishSteadily(t, c, "calm"+string(rune('a'+round)), healthy, events))
		topic := "stuck" + string(rune('a'+round))
		neverRead(t, c.Nodes[round%2], topic)
		with = append(with, publishSteadily(t, c, topic, healthy, events))
	}
	t.Logf("p99 of the healthy without it %v, with it %v", without, with)
	require.LessOrEqual(t, slices.Min(with), 2*slices.Max(without), "what others do to this machine is in both")
}

func TestSubscriberThatNeverReadsIsNamed(t *testing.T) {
	const events, size = 48, 1 << 20 // more than a node keeps for a client
	c := startCluster(t, 2)
	neverRead(t, c.Nodes[0], "news")
	conn := connect(t, c.Nodes[1])
	for range events {
		require.NoError(t, conn.Publish(t.Context(), "news", make([]byte, size)))
	}
	_, err := c.Nodes[0].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return missed(s) > 0 })
	require.NoError(t, err)
}

// missed is how many events clients of the node were too slow for.
func missed(s node.Status) uint64 {
	n := uint64(0)
	for _, client := range s.Clients {
		n += client.Dropped["event"]
	}
	return n
}

// A blocked handler is stuck until it is let go.
type blocked struct{ until <-chan struct{} }

func (b blocked) HandleEvent([]byte) { <-b.until }

func TestHandlerThatStopsIsNamed(t *testing.T) {
	const events = 40_000 // more than a subscription holds
	c := startCluster(t, 2)
	block := make(chan struct{})
	stuck := connect(t, c.Nodes[0])
	t.Cleanup(func() { close(block) })
	require.NoError(t, stuck.Subscribe(t.Context(), "news", blocked{block}, nil))
	conn := connect(t, c.Nodes[1])
	for range events {
		require.NoError(t, conn.Publish(t.Context(), "news", []byte("again")))
	}
	_, err := c.Nodes[0].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return missed(s) > 0 })
	require.NoError(t, err)
}
