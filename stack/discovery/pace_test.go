package discovery_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

// pace counts the probes of a lonely node on subnet by second.
func pace(t *testing.T, subnet string, d time.Duration) (perSecond []int, converged time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		began := time.Now()
		x := start(t, &n, at(netip.MustParsePrefix(subnet).Addr().Next().String(), 0), subnet, secret("net"))
		<-x.Converged()
		converged = time.Since(began)
		after(d - converged)
		perSecond = make([]int, d/time.Second+1)
		for _, s := range n.Sent() {
			perSecond[s.At.Sub(began)/time.Second]++
		}
	})
	return perSecond, converged
}

func TestLonelyNodeOnTinySubnetSlowsDown(t *testing.T) {
	perSecond, converged := pace(t, "10.0.0.0/29", 10*time.Minute)
	require.GreaterOrEqual(t, converged, 150*time.Millisecond)
	require.Less(t, converged, 200*time.Millisecond)
	require.Less(t, perSecond[0], 60)
	for i, n := range perSecond[1:60] {
		require.InDelta(t, 20, n, 1, "second %d", i+1)
	}
	for i, n := range perSecond[62:600] {
		require.Equal(t, 2, n, "second %d: neither more nor silent", i+62)
	}
}

func TestClassCSubnetIsSweptInLessThanHalfASecond(t *testing.T) {
	perSecond, converged := pace(t, "10.0.0.0/24", 5*time.Minute)
	require.Greater(t, converged, 500*time.Millisecond)
	require.Less(t, converged, 600*time.Millisecond)
	require.InDelta(t, 640, perSecond[0], 30)
	for i, n := range perSecond[70:300] {
		require.Equal(t, 2, n, "second %d", i+70)
	}
}

func TestLargeSubnetSparesTheNeighbourTable(t *testing.T) {
	perSecond, converged := pace(t, "10.0.0.0/20", 5*time.Minute)
	require.Greater(t, converged, 2*time.Second)
	require.Less(t, converged, 2200*time.Millisecond)
	total := 0
	for i, n := range perSecond {
		require.LessOrEqual(t, n, 151+discovery.Ports-1, "second %d", i) // its own ports fill no table
		total += n
	}
	require.Greater(t, total, 1<<12, "every address was probed")
	for i, n := range perSecond[120:300] {
		require.Equal(t, 2, n, "second %d", i+120)
	}
}

func TestSettledNodesProbeTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		a.knows(b.addr)
		b.knows(a.addr)
		after(2 * time.Second)
		n.Sent()
		after(100*time.Second - time.Nanosecond)
		sent := n.Sent()
		for _, x := range []*node{a, b} {
			probes := probesOf(x.addr, sent)
			require.InDelta(t, 200, len(probes), 1)
			for _, d := range probes {
				require.NotContains(t, x.known(), d.To, "a known peer was probed")
			}
		}
	})
}

func TestProbingOfTheNetworkStaysConstantAsItGrows(t *testing.T) {
	for nodes, most := range map[int]float64{2: 4.5, 10: 2.6, 50: 11} {
		synctest.Test(t, func(t *testing.T) {
			var n discoverytest.Net
			subnet := netip.MustParsePrefix("10.0.0.0/24")
			n.Share(subnet)
			var all []*node
			for i := range nodes {
				all = append(all, startWith(t, &n, at(fmt.Sprintf("10.0.0.%d", i+1), 0), "10.0.0.0/24",
					func(c *discovery.Config) { c.Broadcast = []netip.Prefix{subnet} }))
			}
			for _, x := range all {
				var peers []netip.AddrPort
				for _, y := range all {
					if x != y {
						peers = append(peers, y.addr)
					}
				}
				x.knows(peers...)
			}
			after(time.Minute)
			n.Sent()
			const watched = 1000 * time.Second
			after(watched)
			sent := n.Sent()
			inAll := float64(len(sent)) / watched.Seconds()
			t.Logf("%d settled nodes: %.2f packets/s in all, %.2f per node", nodes, inAll, inAll/float64(nodes))
			require.Less(t, inAll, most)
			require.LessOrEqual(t, inAll/float64(nodes), 2.3)
			for _, x := range all {
				require.GreaterOrEqual(t, len(probesOf(x.addr, sent)), 199, "probing never stops")
				require.LessOrEqual(t, len(probesOf(x.addr, sent)), 2001)
			}
		})
	}
}
