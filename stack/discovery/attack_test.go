package discovery_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

// record returns a probe and an answer that nodes of secret("net") exchanged
// with victim.
func record(t *testing.T, n *discoverytest.Net, victim *node) (probe, answer []byte) {
	t.Helper()
	n.Sent()
	peer := start(t, n, at("10.0.0.3", 0), "10.0.0.0/29", secret("net"))
	after(time.Second)
	peer.stop()
	for _, d := range n.Sent() {
		switch {
		case d.From == peer.addr && d.To == victim.addr && d.Bytes[5] == 1:
			probe = d.Bytes
		case d.From == peer.addr && d.To == victim.addr && d.Bytes[5] == 2:
			answer = d.Bytes
		}
	}
	require.NotNil(t, probe)
	require.NotNil(t, answer)
	return probe, answer
}

// reactions counts what victim has sent to addr since the last n.Sent.
func reactions(n *discoverytest.Net, victim *node, addr netip.AddrPort) (datagrams, bytes int) {
	for _, d := range n.Sent() {
		if d.From == victim.addr && d.To == addr {
			datagrams++
			bytes += len(d.Bytes)
		}
	}
	return datagrams, bytes
}

func TestReplayIsAnsweredWithNoMoreBytesAndMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		probe, answer := record(t, &n, victim)
		stranger := netip.MustParseAddrPort("192.0.2.7:4000")
		after(time.Minute)
		n.Sent()

		n.Inject(stranger, victim.addr, probe)
		synctest.Wait()
		datagrams, bytes := reactions(&n, victim, stranger)
		require.Equal(t, 1, datagrams)
		require.LessOrEqual(t, bytes, len(probe))

		hits := victim.Counts().Hits
		reports := victim.reports()
		n.Inject(at("10.0.0.3", 0), victim.addr, answer)
		n.Inject(stranger, victim.addr, answer)
		synctest.Wait()
		datagrams, _ = reactions(&n, victim, stranger)
		require.Zero(t, datagrams, "an answer is never answered")
		require.Equal(t, hits, victim.Counts().Hits)
		require.Equal(t, reports, victim.reports())
		require.EqualValues(t, 2, victim.Counts().Refused["stray"])
	})
}

func TestOwnProbeComingBackIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		after(time.Second)
		own := n.Sent()[0]
		n.Inject(own.To, victim.addr, own.Bytes)
		synctest.Wait()
		datagrams, _ := reactions(&n, victim, own.To)
		require.Zero(t, datagrams)
		require.Zero(t, victim.reports())
		require.EqualValues(t, 1, victim.Counts().Refused["self"])
	})
}

func TestAlteredProbesMeetSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		probe, _ := record(t, &n, victim)
		stranger := netip.MustParseAddrPort("192.0.2.7:4000")
		reports := victim.reports()

		attacks := 0
		inject := func(b []byte) {
			attacks++
			n.Inject(stranger, victim.addr, b)
			synctest.Wait()
		}
		for i := range probe {
			inject(probe[:i]) // truncated
			for bit := range 8 {
				flipped := append([]byte(nil), probe...)
				flipped[i] ^= 1 << bit
				inject(flipped)
			}
		}
		for _, extra := range []int{1, 2, 32, discovery.Size, 1200, 65000} {
			inject(append(append([]byte(nil), probe...), make([]byte, extra)...))
		}

		datagrams, _ := reactions(&n, victim, stranger)
		require.Zero(t, datagrams)
		require.Equal(t, reports, victim.reports())
		refused := uint64(0)
		for _, reason := range []string{"size", "magic", "version", "kind", "mac"} {
			count := victim.Counts().Refused[reason]
			require.NotZero(t, count, reason)
			refused += count
		}
		require.EqualValues(t, attacks, refused, "each was counted under its reason")
		n.Inject(stranger, victim.addr, probe)
		synctest.Wait()
		datagrams, _ = reactions(&n, victim, stranger)
		require.Equal(t, 1, datagrams, "the probe itself was good")
	})
}

func TestFloodOfReplaysFromForgedSourcesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		probe, _ := record(t, &n, victim)
		after(time.Minute)
		n.Sent()
		before, reports := victim.Counts(), victim.reports()

		const seconds, rate = 1, 100_000
		for i := range seconds * rate / 100 {
			for j := range 100 {
				var ip [4]byte
				binary.BigEndian.PutUint32(ip[:], 0xc0000000+uint32(i*100+j))
				n.Inject(netip.AddrPortFrom(netip.AddrFrom4(ip), 4000), victim.addr, probe)
			}
			after(100 * time.Second / rate)
		}

		c := victim.Counts()
		answered := c.Answered - before.Answered
		require.EqualValues(t, seconds*rate, answered+c.Refused["rate"])
		require.LessOrEqual(t, answered, uint64(seconds*2000+200))
		require.GreaterOrEqual(t, answered, uint64(seconds*2000))
		require.LessOrEqual(t, victim.reports()-reports, seconds*100+256)

		newcomer := start(t, &n, at("10.0.0.4", 0), "10.0.0.0/29", secret("net"))
		after(time.Second)
		requireFound(t, newcomer, victim)
		requireFound(t, victim, newcomer)
	})
}

func TestFloodOfReplaysDoesNotPutOffConvergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		first := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		probe, _ := record(t, &n, first)
		began := time.Now()
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		for i := range 2000 {
			n.Inject(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 4000), victim.addr, probe)
			after(time.Millisecond)
			select {
			case <-victim.Converged():
				require.Less(t, time.Since(began), 1200*time.Millisecond)
				return
			default:
			}
		}
		require.Fail(t, "not converged")
	})
}

func TestForgedFloodCostsNoAnswersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		probe, _ := record(t, &n, victim)
		forged := append([]byte(nil), probe...)
		forged[40] ^= 1
		stranger := netip.MustParseAddrPort("192.0.2.7:4000")
		for range 100 {
			for range 100 {
				n.Inject(stranger, victim.addr, forged)
			}
			synctest.Wait()
		}
		n.Sent()
		n.Inject(stranger, victim.addr, probe)
		synctest.Wait()
		datagrams, _ := reactions(&n, victim, stranger)
		require.Equal(t, 1, datagrams)
		require.EqualValues(t, 10_000, victim.Counts().Refused["mac"])
	})
}
