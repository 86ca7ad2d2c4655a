package relay

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func open(id uint64, cluster string) []byte {
	return wire.AppendOpen(nil, wire.Open{ID: id, Cluster: []byte(cluster), Budget: wire.NoDeadline, Window: 1 << 20})
}

func chunk(id uint64, payload string) []byte {
	return wire.AppendData(nil, wire.Data{ID: id, Last: true, Payload: []byte(payload)})
}

// offer reads the offer of a tunnel.
func (c *client) offer() wire.Open {
	c.t.Helper()
	o, err := wire.ParseOpen(c.expect(wire.OpOpen))
	require.NoError(c.t, err)
	return o
}

// data reads a chunk.
func (c *client) data(id uint64) wire.Data {
	c.t.Helper()
	d, err := wire.ParseData(c.expect(wire.OpData))
	require.NoError(c.t, err)
	require.Equal(c.t, id, d.ID)
	return d
}

// aborted reads the end of a tunnel.
func (c *client) aborted(id uint64, code wire.Code) string {
	c.t.Helper()
	got, gotCode, text, err := wire.ParseAbort(c.expect(wire.OpAbort))
	require.NoError(c.t, err)
	require.Equal(c.t, id, got)
	require.Equal(c.t, code, gotCode, text)
	return text
}

// tunnel opens tunnel id of asker to a service, which knows it by the id returned.
func tunnel(service, asker *client, id uint64, cluster string) uint64 {
	asker.t.Helper()
	asker.send(open(id, cluster))
	offered := service.offer().ID
	service.send(wire.AppendOpened(nil, wire.Opened{ID: offered, Window: 1 << 20}))
	asker.expect(wire.OpOpened)
	return offered
}

func TestTunnelCarriesEverythingBothWaysUntilBothHaveFinished(t *testing.T) {
	w := newWorld(t, Config{})
	service, asker := w.attach("work"), w.attach("")
	headers := wire.EncodeHeaders(map[string]string{"trace": "t1"})
	asker.send(wire.AppendOpen(nil, wire.Open{ID: 7, Cluster: []byte("work"), Budget: 250, Window: 1000, Headers: headers}))
	o := service.offer()
	require.NotZero(t, o.ID&wire.NodeTunnel)
	require.Equal(t, wire.Open{ID: o.ID, Cluster: []byte("work"), Budget: 250, Window: 1000, Headers: headers}, o)
	service.send(wire.AppendOpened(nil, wire.Opened{ID: o.ID, Window: 2000, Headers: headers}))
	opened, err := wire.ParseOpened(asker.expect(wire.OpOpened))
	require.NoError(t, err)
	require.Equal(t, wire.Opened{ID: 7, Window: 2000, Headers: headers}, opened)

	asker.send(wire.AppendData(nil, wire.Data{ID: 7, Payload: []byte("he")}), chunk(7, "llo"), wire.AppendFinish(nil, 7))
	first := service.data(o.ID)
	require.Equal(t, "he", string(first.Payload))
	require.False(t, first.Last)
	require.Equal(t, "llo", string(service.data(o.ID).Payload))
	service.expect(wire.OpFinish)
	service.send(wire.AppendAllow(nil, o.ID, 5), chunk(o.ID, "back"), wire.AppendFinish(nil, o.ID))
	id, n, err := wire.ParseAllow(asker.expect(wire.OpAllow))
	require.NoError(t, err)
	require.Equal(t, []uint64{7, 5}, []uint64{id, uint64(n)}, "a side that has finished learns what has been dealt with")
	require.Equal(t, "back", string(asker.data(7).Payload))
	asker.expect(wire.OpFinish)

	require.Zero(t, w.server.Clients()[1].Tunnels)
	asker.send(chunk(7, "late"), wire.AppendAllow(nil, 7, math.MaxUint32), wire.AppendFinish(nil, 7), wire.AppendAbort(nil, 7, wire.CodeOK, ""))
	asker.echo(1)
	service.echo(1)
	tunnel(service, asker, 7, "work") // the id is free again
}

func TestBrokenRulesOfTunnelsEndTheConnectionAndTheTunnel(t *testing.T) {
	for name, said := range map[string][][]byte{
		"id of the node":        {open(5|wire.NodeTunnel, "work")},
		"id in use":             {open(1, "work")},
		"window":                {wire.AppendOpen(nil, wire.Open{ID: 5, Cluster: []byte("work"), Window: math.MaxInt32 + 1})},
		"opened, not offered":   {wire.AppendOpened(nil, wire.Opened{ID: 1})},
		"data behind a finish":  {wire.AppendFinish(nil, 1), chunk(1, "x")},
		"second finish":         {wire.AppendFinish(nil, 1), wire.AppendFinish(nil, 1)},
		"allow":                 {wire.AppendAllow(nil, 1, math.MaxInt32)},
		"data before it opens":  {open(5, "work"), chunk(5, "x")},
		"allow before it opens": {open(5, "work"), wire.AppendAllow(nil, 5, 1)},
		"data not allowed":      {chunk(1, "full")},
		"event":                 {wire.AppendEvent(nil, wire.Event{Topic: []byte("t")})},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			service, asker := w.attach("work"), w.attach("")
			offered := tunnel(service, asker, 1, "work")
			asker.send(said...)
			asker.expectEndNamed("unexpected")
			for {
				content, err := service.in.Next()
				require.NoError(t, err)
				if op, _ := wire.ParseOp(content); op == wire.OpAbort {
					id, code, _, err := wire.ParseAbort(content)
					require.NoError(t, err)
					require.Equal(t, wire.CodeLost, code)
					if id == offered {
						break
					}
				}
			}
		})
	}
}

func TestOpenThatBreaksALimitIsAbortedAndTheConnectionGoesOn(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Tunnels = 2
	w := newWorld(t, Config{Limits: limits})
	service, asker := w.attach("work"), w.attach("")
	asker.send(open(1, ""), open(2, "nobody"),
		wire.AppendOpen(nil, wire.Open{ID: 3, Cluster: []byte("work"), Headers: wire.EncodeHeaders(map[string]string{"h": string(make([]byte, limits.Headers))})}))
	asker.aborted(1, wire.CodeInvalid)
	asker.aborted(2, wire.CodeNoService)
	asker.aborted(3, wire.CodeInvalid)
	tunnel(service, asker, 4, "work")
	offered := tunnel(service, asker, 5, "work")
	for id := uint64(6); id < 100; id++ {
		asker.send(open(id, "work"))
		asker.aborted(id, wire.CodeOverloaded)
	}
	require.False(t, w.network.port(0).session.PushOpen(wire.Open{ID: wire.NodeTunnel}, nil), "a service was offered more than its limit")
	service.send(wire.AppendAbort(nil, offered, wire.CodeFailed, "enough"))
	require.Equal(t, "enough", asker.aborted(5, wire.CodeFailed))
	tunnel(service, asker, 100, "work")
}

func TestChunkBeyondTheLimitEndsItsTunnelForBoth(t *testing.T) {
	w := newWorld(t, Config{})
	service, asker := w.attach("work"), w.attach("")
	offered := tunnel(service, asker, 1, "work")
	asker.send(chunk(1, string(make([]byte, wire.DefaultLimits().Chunk+1))))
	require.NotEmpty(t, asker.aborted(1, wire.CodeInvalid))
	service.aborted(offered, wire.CodeInvalid)
	asker.echo(1)
}

func TestClientKilledInTheMiddleOfATunnelEndsItForTheOtherSide(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.attach("work")
	whole := chunk(1, "half of it")
	for range 3 {
		asker := w.attach("")
		offered := tunnel(service, asker, 1, "work")
		asker.send(whole, whole[:len(whole)/2])
		require.Equal(t, "half of it", string(service.data(offered).Payload))
		asker.kill()
		service.aborted(offered, wire.CodeLost)
	}
	w.eventually(func() bool { return len(w.server.all()) == 1 }, "killed clients are still there")
	require.Zero(t, w.server.Clients()[0].Tunnels)

	asker := w.attach("")
	asker.send(open(1, "work"), open(2, "work"))
	first := service.offer().ID
	service.send(wire.AppendOpened(nil, wire.Opened{ID: first}))
	service.kill()
	asker.expect(wire.OpOpened)
	asker.aborted(1, wire.CodeLost)
	asker.aborted(2, wire.CodeLost)
	asker.echo(1)
}

func TestTunnelOfAClientThatDoesNotReadEndsOverloaded(t *testing.T) {
	w := newWorld(t, Config{})
	service, lazy := w.attach("work"), w.attach("")
	offered := tunnel(service, lazy, 1, "work")
	other := tunnel(service, lazy, 2, "work")
	bystander := w.attach("")
	third := tunnel(service, bystander, 1, "work")
	session := w.network.port(1).session

	sent := 0
	for full := chunk(offered, string(make([]byte, 1<<16))); sent < 2*outputLimit>>16; sent++ {
		service.send(full)
		if session.out.Pending() > outputLimit-1<<16 {
			break
		}
	}
	service.send(chunk(offered, string(make([]byte, 1<<16))), chunk(offered, string(make([]byte, 1<<16))))

	service.aborted(offered, wire.CodeOverloaded)
	require.LessOrEqual(t, session.out.Pending(), outputLimit+outputReserve)
	service.send(chunk(third, "unharmed"))
	require.Equal(t, "unharmed", string(bystander.data(1).Payload))
	// It reads at last: a prefix, then the end; its other tunnel goes on.
	for got := 0; ; got++ {
		content, err := lazy.in.Next()
		require.NoError(t, err)
		if op, _ := wire.ParseOp(content); op == wire.OpAbort {
			require.LessOrEqual(t, got, sent+2)
			break
		}
	}
	service.send(chunk(other, "still there"))
	require.Equal(t, "still there", string(lazy.data(2).Payload))
}

func TestTunnelIsForgottenOnlyWhenTheOtherSideWasTold(t *testing.T) {
	for name, end := range map[string][]byte{"finish": wire.AppendFinish(nil, 1), "abort": wire.AppendAbort(nil, 1, wire.CodeOK, "")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			service, asker := w.attach("work"), w.attach("")
			offered := tunnel(service, asker, 1, "work")
			service.send(wire.AppendFinish(nil, offered))
			asker.expect(wire.OpFinish)
			told := make(chan int, 1)
			w.network.ending = func() { told <- w.server.busy() }
			asker.send(end)
			require.Equal(t, 2, <-told, "a drain would have ended before the other side was told")
		})
	}
}

func TestDrainWaitsForTunnelsAndCloseAbortsThem(t *testing.T) {
	w := newWorld(t, Config{})
	service, asker := w.attach("work"), w.attach("")
	offered := tunnel(service, asker, 1, "work")
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- w.server.Drain(ctx) }()
	service.expect(wire.OpLeaving)
	asker.expect(wire.OpLeaving)
	asker.send(open(2, "work"), chunk(1, "goes on"))
	asker.aborted(2, wire.CodeClosing)
	require.Equal(t, "goes on", string(service.data(offered).Payload))
	require.False(t, w.network.port(0).session.PushOpen(wire.Open{ID: wire.NodeTunnel}, nil))
	require.True(t, w.network.port(0).session.PushBroadcast(wire.Broadcast{}), "a leaving node's services are given none, and miss none")
	require.Empty(t, drained)
	cancel()
	require.ErrorContains(t, <-drained, "2 clients")

	go func() { _ = w.server.Close() }()

	// Both are told, with one code, whichever session ends first.
	service.aborted(offered, wire.CodeClosing)
	asker.aborted(1, wire.CodeClosing)
	service.expectBye(wire.CodeClosing)
	asker.expectBye(wire.CodeClosing)
}
