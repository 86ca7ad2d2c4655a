package relay

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func subscribe(id uint64, topic string) []byte { return wire.AppendSubscribe(nil, id, []byte(topic)) }

// done expects the outcome of an operation.
func (c *client) done(id uint64, code wire.Code) {
	c.t.Helper()
	got, gotCode, text, err := wire.ParseDone(c.expect(wire.OpDone))
	require.NoError(c.t, err)
	require.Equal(c.t, id, got)
	require.Equal(c.t, code, gotCode, text)
}

func TestSubscribeIsConfirmedWhenItIsEffective(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.installed = make(chan struct{})
		c := w.attach("")
		c.send(subscribe(1, "slow"))
		began := time.Now()
		c.done(1, wire.CodeOK)
		require.Equal(t, installTime, time.Since(began), "others may never confirm")

		c.send(subscribe(2, "quick"))
		time.Sleep(installTime / 2)
		close(w.network.installed)
		c.done(2, wire.CodeOK)
		require.Less(t, time.Since(began), 2*installTime)
	})
}

func TestErrorsOfSubscribeLeaveTheConnection(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Topics = 2
	w := newWorld(t, Config{Limits: limits})
	c := w.attach("")
	c.send(wire.AppendUnsubscribe(nil, 1, []byte("a")))
	c.done(1, wire.CodeInvalid)
	c.send(subscribe(2, "a"))
	c.done(2, wire.CodeOK)
	c.send(subscribe(3, "a"))
	c.done(3, wire.CodeInvalid)
	c.send(subscribe(4, ""))
	c.done(4, wire.CodeInvalid)
	c.send(subscribe(5, "b"))
	c.done(5, wire.CodeOK)
	c.send(subscribe(6, "c"))
	c.done(6, wire.CodeOverloaded)
	c.send(wire.AppendUnsubscribe(nil, 7, []byte("a")))
	c.done(7, wire.CodeOK)
	c.send(subscribe(8, "c"))
	c.done(8, wire.CodeOK)
	c.echo(9)
}

func TestSlowConsumerMissesEventsAndIsNamed(t *testing.T) {
	w := newWorld(t, Config{})
	slow, quick := w.attach(""), w.attach("")
	for _, c := range []*client{slow, quick} {
		c.send(subscribe(1, "news"))
		c.done(1, wire.CodeOK)
	}
	slow.send(wire.AppendCredit(nil, wire.KindEvent, 3))
	quick.send(wire.AppendCredit(nil, wire.KindEvent, 100))
	slow.echo(2)
	quick.echo(2)

	publisher := w.attach("")
	for i := range uint64(10) {
		publisher.send(wire.AppendPublish(nil, wire.Publish{ID: i + 1, Topic: []byte("news"), Payload: fmt.Append(nil, i)}))
		publisher.done(i+1, wire.CodeOK)
	}
	for i := range 10 {
		m, err := wire.ParseEvent(quick.expect(wire.OpEvent))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Payload))
	}
	for i := range 3 {
		m, err := wire.ParseEvent(slow.expect(wire.OpEvent))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Payload))
	}
	require.Equal(t, map[string]uint64{"event": 7}, w.server.Clients()[0].Dropped)
	require.Nil(t, w.server.Clients()[1].Dropped)
	slow.echo(3)
}

func TestClientsThatLeaveWhileTheySubscribeLeakNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.installed = make(chan struct{})
		for i := range 20 {
			c := w.attach("")
			c.send(subscribe(uint64(i), "t"))
			synctest.Wait()
			require.NoError(t, c.conn.Close())
		}
		synctest.Wait()
		require.Empty(t, w.server.Clients())
	})
}

func TestTunnelOfAServiceThatDrainsHoldsItBack(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.attach("work")
	asker := w.attach("")
	asker.send(wire.AppendOpen(nil, wire.Open{ID: 1, Cluster: []byte("work"), Budget: wire.NoDeadline, Window: 100}))
	offer, err := wire.ParseOpen(service.expect(wire.OpOpen))
	require.NoError(t, err)
	service.send(wire.AppendDrain(nil))
	service.send(wire.AppendOpened(nil, wire.Opened{ID: offer.ID, Window: 100}))
	asker.expect(wire.OpOpened)
	service.send(wire.AppendFinish(nil, offer.ID))
	asker.expect(wire.OpFinish)
	require.Equal(t, 1, w.server.Clients()[0].Tunnels)
	asker.send(wire.AppendFinish(nil, 1))
	service.expect(wire.OpFinish)
	service.expect(wire.OpDrained)
}

func TestDataBeyondTheAllowanceEndsTheConnection(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.attach("work")
	asker := w.attach("")
	asker.send(wire.AppendOpen(nil, wire.Open{ID: 1, Cluster: []byte("work"), Budget: wire.NoDeadline, Window: 100}))
	offer, err := wire.ParseOpen(service.expect(wire.OpOpen))
	require.NoError(t, err)
	service.send(wire.AppendOpened(nil, wire.Opened{ID: offer.ID}))
	asker.expect(wire.OpOpened)
	asker.send(wire.AppendData(nil, wire.Data{ID: 1, Last: true, Payload: []byte("full")}))
	code, _, err := wire.ParseBye(asker.expect(wire.OpBye))
	require.NoError(t, err)
	require.Equal(t, wire.CodeUnexpected, code)
}

func TestMessagesThatBreakALimitAreInvalidAndTheConnectionGoesOn(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	limits := wire.DefaultLimits()
	large := make([]byte, limits.Payload+1)
	for i, name := range [][]byte{[]byte("big"), nil, make([]byte, limits.Name+1)} {
		id := uint64(2*i + 1)
		c.send(wire.AppendBroadcast(nil, wire.Broadcast{ID: id, Cluster: name, Payload: large}))
		c.done(id, wire.CodeInvalid)
		c.send(wire.AppendPublish(nil, wire.Publish{ID: id + 1, Topic: name, Payload: large}))
		c.done(id+1, wire.CodeInvalid)
	}
	c.send(wire.AppendBroadcast(nil, wire.Broadcast{ID: 9, Cluster: []byte("nobody")}))
	c.done(9, wire.CodeNoService)
	require.Nil(t, w.server.Clients()[0].Dropped)

	c.send(wire.AppendPublish(nil, wire.Publish{Topic: []byte("t"), Payload: large}), wire.AppendBroadcast(nil, wire.Broadcast{}))
	c.echo(1) // without an id there is no outcome
	require.Equal(t, map[string]uint64{"refused": 2}, w.server.Clients()[0].Dropped)
}

func TestBroadcastsReachMembersWithCreditInOrder(t *testing.T) {
	w := newWorld(t, Config{})
	poor, rich := w.attach("demo"), w.attach("demo")
	poor.send(wire.AppendCredit(nil, wire.KindRequest, 100), wire.AppendCredit(nil, wire.KindBroadcast, 1))
	rich.send(wire.AppendCredit(nil, wire.KindBroadcast, 100))
	poor.sync()
	rich.sync()
	for i := range 10 {
		rich.send(wire.AppendBroadcast(nil, wire.Broadcast{ID: 77, Cluster: []byte("demo"), Payload: fmt.Append(nil, i)}))
	}
	for i := range 10 {
		m, err := wire.ParseBroadcast(rich.expect(wire.OpBroadcast))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Payload))
		require.Zero(t, m.ID)
		rich.done(77, wire.CodeOK)
	}
	poor.expect(wire.OpBroadcast)
	poor.sync()
	require.Equal(t, map[string]uint64{"broadcast": 9}, w.server.Clients()[0].Dropped)

	rich.send(wire.AppendDrain(nil))
	rich.expect(wire.OpDrained)
	require.True(t, w.network.port(1).session.PushBroadcast(wire.Broadcast{}))
	rich.sync() // a draining service is given none, and misses none
}

func TestCreditIsSummedByKind(t *testing.T) {
	w := newWorld(t, Config{})
	for _, kind := range []uint32{wire.KindRequest, wire.KindBroadcast, wire.KindEvent} {
		c := w.attach("demo")
		c.send(wire.AppendCredit(nil, kind, math.MaxInt32))
		c.sync()
		c.send(wire.AppendCredit(nil, kind, 1))
		c.expectBye(wire.CodeUnexpected)
		c = w.attach("")
		c.send(wire.AppendCredit(nil, kind, 1))
		if kind == wire.KindEvent {
			c.sync()
		} else {
			c.expectBye(wire.CodeUnexpected)
		}
	}
}

func TestNoEventComesBehindAnUnsubscribe(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(wire.AppendCredit(nil, wire.KindEvent, 10), subscribe(1, "news"))
	c.done(1, wire.CodeOK)
	c.send(wire.AppendUnsubscribe(nil, 2, []byte("news")))
	c.done(2, wire.CodeOK)
	session := w.network.port(0).session
	require.True(t, session.PushEvent(wire.Event{Topic: []byte("news")}), "it has nobody to miss it")
	session.Flush()
	c.sync()
	require.Nil(t, w.server.Clients()[0].Dropped)
}

func TestHundredThousandSubscriptionsMeetTheLimit(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	limit := int(wire.DefaultLimits().Topics)
	const batch = 1000
	for first := 0; first < 100_000; first += batch {
		var frames []byte
		for i := first; i < first+batch; i++ {
			frames = append(frames, subscribe(uint64(i), fmt.Sprint("topic-", i))...)
		}
		c.send(frames)
		for i := first; i < first+batch; i++ {
			if i < limit {
				c.done(uint64(i), wire.CodeOK)
			} else {
				c.done(uint64(i), wire.CodeOverloaded)
			}
		}
	}
	require.Equal(t, limit, w.server.Clients()[0].Subscriptions)
	w.attach("").echo(1)
	c.echo(1)
	c.kill()
	w.eventually(func() bool { return len(w.server.all()) == 1 }, "the killed client is still there")
}

func TestTurnIsFlushedBeforeItsReaderWaitsForSubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.installed = make(chan struct{})
		c := w.attach("")
		began := time.Now()
		for i := range uint64(maxInstalling) {
			c.send(subscribe(i, fmt.Sprint(i)))
		}
		c.send(append(wire.AppendPing(nil, 1), subscribe(maxInstalling, "one more")...))
		c.expect(wire.OpPong)
		require.Zero(t, time.Since(began), "what the turn had said before waited with the reader")
		for range maxInstalling + 1 {
			c.expect(wire.OpDone)
		}
		require.Equal(t, installTime, time.Since(began))
	})
}

func TestSubscriberThatNeverReadsIsBoundedAndOthersLoseNothing(t *testing.T) {
	w := newWorld(t, Config{})
	lazy, healthy, publisher := w.attach(""), w.attach(""), w.attach("")
	for _, c := range []*client{lazy, healthy} {
		c.send(wire.AppendCredit(nil, wire.KindEvent, math.MaxInt32), subscribe(1, "news"))
		c.done(1, wire.CodeOK)
	}
	event := wire.AppendPublish(nil, wire.Publish{Topic: []byte("news"), Payload: make([]byte, 1<<20)})
	const events = 100
	for range events {
		publisher.send(event)
		healthy.expect(wire.OpEvent)
	}
	publisher.sync()
	require.LessOrEqual(t, w.network.port(0).session.out.Pending(), outputLimit)
	clients := w.server.Clients()
	require.Nil(t, clients[1].Dropped)
	lost := clients[0].Dropped["event"]
	require.Greater(t, lost, uint64(events/2))
	for range events - lost {
		lazy.expect(wire.OpEvent)
	}
	lazy.echo(2)
}

func TestSlowClientIsLoggedOnceAMinuteAndWhenItHasRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newPipeWorld(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		c := w.attach("demo")
		c.send(subscribe(1, "news"))
		c.done(1, wire.CodeOK)
		session := w.network.port(0).session
		pass := func(seconds int, missed bool) {
			for i := range seconds {
				if missed {
					session.PushEvent(wire.Event{Topic: []byte("news")})
				}
				time.Sleep(time.Second)
				if i%10 == 0 {
					c.sync() // it is not silent
				}
			}
			synctest.Wait()
		}
		pass(150, true)
		require.Equal(t, 3, strings.Count(log.String(), "level=WARN"), log.String())
		require.Contains(t, log.String(), "conn=1 cluster=demo events=")
		require.NotContains(t, log.String(), "recovered")
		pass(150, false)
		require.Equal(t, 3, strings.Count(log.String(), "level=WARN"))
		require.Equal(t, 1, strings.Count(log.String(), "recovered"), log.String())
	})
}
