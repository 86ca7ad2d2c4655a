package discovery_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

var ownMark = discovery.Mark{0xab, 0xcd}

// startMarked runs a node of a network with a mark.
func startMarked(t *testing.T, n *discoverytest.Net, addr netip.AddrPort, subnet string) *node {
	return startWith(t, n, addr, subnet, func(c *discovery.Config) { c.Mark = ownMark })
}

// flooded sends forged probes with mark to victim, 20,000 a second, and returns how many.
func flooded(n *discoverytest.Net, victim *node, mark discovery.Mark, d time.Duration) (sent int) {
	forged := append([]byte("\x07IRS\x01\x01"), make([]byte, discovery.Size-6)...)
	copy(forged[6:], mark[:])
	for range d / time.Millisecond {
		for range 20 {
			n.Inject(netip.MustParseAddrPort("192.0.2.7:4000"), victim.addr, forged)
			sent++
		}
		after(time.Millisecond)
	}
	return sent
}

func TestFloodIsDroppedUnseenUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		n.Thin()
		victim := startMarked(t, &n, at("10.0.0.1", 0), "10.0.0.0/29")
		after(time.Minute)
		thinned := func() [2]bool {
			with, without := victim.conn.Thinned()
			return [2]bool{with, without}
		}
		require.Equal(t, [2]bool{false, false}, thinned())
		sent := flooded(&n, victim, discovery.Mark{}, 200*time.Millisecond)
		require.Equal(t, [2]bool{false, true}, thinned())

		newcomer := startMarked(t, &n, at("10.0.0.2", 0), "10.0.0.0/29")
		sent += flooded(&n, victim, discovery.Mark{}, 500*time.Millisecond)
		requireFound(t, victim, newcomer)
		requireFound(t, newcomer, victim)
		sent += flooded(&n, victim, discovery.Mark{}, 10*time.Second)
		require.Equal(t, [2]bool{false, true}, thinned(), "as long as it lasts")
		refused := victim.Counts().Refused
		require.Less(t, refused["mac"], uint64(sent/10))
		require.InDelta(t, sent, refused["mac"]+refused["flood"], float64(sent/10))

		after(5 * time.Second)
		require.Equal(t, [2]bool{false, false}, thinned())
		for range 10 {
			n.Inject(at("10.0.0.3", 0), victim.addr, append([]byte("\x07IRS\x01\x01"), make([]byte, discovery.Size-6)...))
		}
		after(time.Millisecond)
		require.EqualValues(t, 10, victim.Counts().Refused["mac"]-refused["mac"], "everything is looked at again")
		require.Equal(t, refused["flood"], victim.Counts().Refused["flood"])
	})
}

func TestFloodWithTheMarkKeepsNobodyOutForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		n.Thin()
		victim := startMarked(t, &n, at("10.0.0.1", 0), "10.0.0.0/24")
		victim.knows(at("10.9.0.1", 0), at("10.9.0.2", 0))
		after(5 * time.Minute)
		flooded(&n, victim, ownMark, 200*time.Millisecond)
		with, without := victim.conn.Thinned()
		require.True(t, with)
		require.False(t, without)
		newcomer := startMarked(t, &n, at("10.0.0.2", 0), "10.0.0.0/24")
		began := time.Now()
		for found := false; !found; _, found = newcomer.foundAt(victim.addr) {
			flooded(&n, victim, ownMark, 100*time.Millisecond)
			require.Less(t, time.Since(began), 90*time.Second, "in which all addresses and ports are probed")
		}
		t.Logf("found after %v", time.Since(began))
		with, _ = victim.conn.Thinned()
		require.True(t, with)
		after(5 * time.Second)
		with, _ = victim.conn.Thinned()
		require.False(t, with)
		n.Sent()
		after(time.Minute)
		require.Less(t, len(probesOf(victim.addr, n.Sent())), 70, "it probes slowly again")
	})
}

func TestFloodIsLookedAtWhereTheSystemCannotDropIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		victim := startMarked(t, &n, at("10.0.0.1", 0), "10.0.0.0/29")
		sent := flooded(&n, victim, discovery.Mark{}, 2*time.Second)
		newcomer := startMarked(t, &n, at("10.0.0.2", 0), "10.0.0.0/29")
		sent += flooded(&n, victim, discovery.Mark{}, time.Second)
		requireFound(t, victim, newcomer)
		requireFound(t, newcomer, victim)
		require.EqualValues(t, sent, victim.Counts().Refused["mac"])
		require.Zero(t, victim.Counts().Refused["flood"])
	})
}
