package relay

import (
	"fmt"
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
