package link_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

func TestHealthTellsWhatALinkCarriesAndLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		peer := p.Transports[1].ID()
		before, ok := p.Transports[0].Health(peer)
		require.True(t, ok)
		require.Zero(t, before.MessagesSent)
		n := 0
		p.Paths.Watch(func(from, _ netAddr, b []byte) bool {
			if from == p.Addr(0) {
				n++
			}
			return from != p.Addr(0) || n%10 != 0
		})
		for i := range 100 {
			send(t, p.conn(t, 0), uint64(i), fmt.Sprint(i))
			time.Sleep(latency)
		}
		require.NoError(t, p.conn(t, 0).SendControl([]byte("control")))
		time.Sleep(time.Second)
		here, _ := p.Transports[0].Health(peer)
		there, _ := p.Transports[1].Health(p.Transports[0].ID())
		require.EqualValues(t, 101, here.MessagesSent)
		require.EqualValues(t, 101, there.MessagesReceived)
		require.Zero(t, here.MessagesReceived)
		require.InDelta(t, n/10, here.PacketsLost, 3)
		require.Greater(t, here.PacketsSent, there.PacketsReceived-before.PacketsReceived-10)
		require.Greater(t, here.BytesSent, before.BytesSent)
		require.Positive(t, there.BytesReceived)
		require.InDelta(t, 2*latency, here.RTT, float64(latency))
		require.InDelta(t, 2*latency, here.MinRTT, float64(latency))
		require.Greater(t, here.CongestionWindow, uint64(1200))
		_, ok = p.Transports[0].Health(link.ID{9})
		require.False(t, ok)
	})
}

func TestTheEndOfALinkIsLoggedOnceWithItsReason(t *testing.T) {
	for name, row := range map[string]struct {
		end  func(p *pair, c *link.Conn)
		want string
	}{
		"closed":           {func(_ *pair, c *link.Conn) { c.Close(link.ReasonSilent) }, "silent"},
		"broken":           {func(_ *pair, c *link.Conn) { link.WriteControlRaw(c, []byte{0xff, 0, 0, 0}) }, "protocol"},
		"nothing is heard": {func(p *pair, _ *link.Conn) { p.Paths.Cut(p.Addr(0), p.Addr(1)) }, "nothing heard"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, lines := countingLog()
				p := newPair(t, linktest.Options{Log: log})
				row.end(p, p.conn(t, 0))
				time.Sleep(3 * link.IdleTimeout)
				require.Equal(t, 2, lines("link ended"), "one line on each side")
				require.Equal(t, 2, lines(row.want))
			})
		})
	}
}

func TestSmallReceiveBufferIsToldWithItsRemedy(t *testing.T) {
	for granted, warned := range map[int]int{0: 0, 212_992: 1, 7 << 20: 0} {
		log, lines := countingLog()
		link.WarnOfSmallBuffer(log, granted)
		require.Equal(t, warned, lines("net.core.rmem_max"), "%d bytes", granted)
	}
	require.Positive(t, link.ReceiveBufferOf(listen(t, "127.0.31.6")))
}
