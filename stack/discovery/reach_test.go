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

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// targets sorts what x has probed since the last look into subnets.
func targets(n *discoverytest.Net, x *node, subnets ...string) []int {
	counts := make([]int, len(subnets))
	for _, d := range probesOf(x.addr, n.Sent()) {
		for i, s := range prefixes(subnets...) {
			if s.Contains(d.To.Addr()) {
				counts[i]++
			}
		}
	}
	return counts
}

func TestSubnetThatComesLaterIsSweptAtFullSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		x := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/28", secret("net"))
		there := start(t, &n, at("10.1.0.200", 0), "10.1.0.200/32", secret("net"))
		after(5 * time.Minute)
		require.NoError(t, x.SetReach(discovery.Reach{Subnets: prefixes("10.0.0.0/28", "10.1.0.0/24")}))
		n.Sent()
		after(2 * time.Second)
		requireFound(t, x, there)
		counts := targets(&n, x, "10.0.0.0/28", "10.1.0.0/24")
		require.InDelta(t, 5*254, counts[1], 30)
		require.Less(t, counts[0], 30, "the old one is not swept again")

		there.stop()
		require.NoError(t, x.SetReach(discovery.Reach{Subnets: prefixes("10.0.0.0/28")}))
		x.knows(there.addr) // not missing
		after(time.Second)
		n.Sent()
		after(10 * time.Minute)
		counts = targets(&n, x, "10.0.0.0/28", "10.1.0.0/24")
		require.Greater(t, counts[0], 100)
		require.Zero(t, counts[1], "one that has gone is not probed")
	})
}

func TestBroadcastThatComesLaterFindsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		n.Share(netip.MustParsePrefix("10.4.0.0/16"))
		x := start(t, &n, at("10.4.0.1", 0), "10.0.0.0/28", secret("net"))
		there := start(t, &n, at("10.4.99.200", 0), "10.9.0.0/28", secret("net"))
		after(5 * time.Minute)
		_, found := x.foundAt(there.addr)
		require.False(t, found)
		require.NoError(t, x.SetReach(discovery.Reach{Subnets: prefixes("10.4.0.0/16"), Broadcast: prefixes("10.4.0.0/16")}))
		after(time.Second)
		requireFound(t, x, there)
		requireFound(t, there, x)
	})
}

func TestReachMayBecomeNothingAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		x := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		after(2 * time.Minute)
		require.NoError(t, x.SetReach(discovery.Reach{}))
		n.Sent()
		after(time.Minute)
		require.Empty(t, probesOf(x.addr, n.Sent()))
		there := start(t, &n, at("10.0.0.2", 0), "10.9.0.0/29", secret("net"))
		require.NoError(t, x.SetReach(discovery.Reach{Subnets: prefixes("10.0.0.0/29")}))
		after(time.Minute)
		requireFound(t, x, there)
		require.ErrorContains(t, x.SetReach(discovery.Reach{Subnets: prefixes("::/64")}), "cannot be probed")
		require.ErrorContains(t, x.SetReach(discovery.Reach{Broadcast: prefixes("10.0.0.0/31")}), "no broadcast address")
	})
}
