package discovery_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

// calling lets a node call on eth0, by ear.
func calling(ear *discoverytest.Ear, address string) func(*discovery.Config) {
	return func(c *discovery.Config) {
		c.Callers = []discovery.Caller{{Interface: "eth0", Address: netip.MustParsePrefix(address)}}
		c.Calls = func() (discovery.CallConn, error) { return ear, nil }
	}
}

// earOn is an ear of a host with one interface.
func earOn(n *discoverytest.Net) *discoverytest.Ear {
	return n.Ear(map[string]string{"eth0": "wire"})
}

func TestCallFindsNodesOfALargeSubnetAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		first := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/16", calling(earOn(&n), "10.5.0.5/16"))
		after(5 * time.Minute)
		second := startWith(t, &n, at("10.5.100.200", 4), "10.5.0.0/16", calling(earOn(&n), "10.5.100.200/16"))
		after(50 * time.Millisecond)
		requireFound(t, first, second)
		requireFound(t, second, first)
		require.EqualValues(t, 1, first.Counts().Heard)
		require.EqualValues(t, 1, second.Counts().Called)
		require.Zero(t, second.Counts().Heard)
		require.NotZero(t, first.Counts().Hits, "found by the answer, not by the call")
		for _, x := range []*node{first, second} {
			require.Empty(t, x.Counts().Refused)
		}
	})
}

func TestCallOfAnotherNetworkFindsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		ear := earOn(&n)
		here := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.5/32", calling(ear, "10.5.0.5/16"))
		startWith(t, &n, at("10.5.100.200", 4), "10.5.0.5/32", func(c *discovery.Config) {
			calling(earOn(&n), "10.5.100.200/16")(c)
			c.Secrets = [][]byte{secret("other")}
		})
		n.Sent()
		after(time.Second)
		require.NotZero(t, here.Counts().Refused["mac"])
		require.Zero(t, here.Counts().Heard)
		require.Zero(t, targets(&n, here, "10.5.100.200/32")[0], "who cannot sign sends nobody anywhere")
	})
}

func TestCallsComeSoonAgainAndThenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		ear := earOn(&n)
		began := time.Now()
		x := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/24", calling(ear, "10.5.0.5/16"))
		after(16 * time.Second)
		var times []time.Duration
		for _, c := range ear.Sent() {
			times = append(times, c.At.Sub(began))
		}
		ms := time.Millisecond
		require.Equal(t, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 12700 * ms}, times)
		after(time.Hour)
		require.InDelta(t, 3600/8, len(ear.Sent()), 1)

		x.knows(at("10.5.9.1", 0), at("10.5.9.2", 0), at("10.5.9.3", 0), at("10.5.9.4", 0))
		after(time.Minute)
		ear.Sent()
		after(time.Hour)
		require.InDelta(t, 3600/128, len(ear.Sent()), 1, "16 slow probes for each of 4 peers, at 2 s")
		x.knows()
		after(9 * time.Second)
		require.NotEmpty(t, ear.Sent(), "who is alone again does not wait for so long")
	})
}

func TestInterfaceThatComesLaterIsCalledOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		ear := n.Ear(map[string]string{"eth0": "wire", "eth1": "other"})
		x := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/24", calling(ear, "10.5.0.5/16"))
		after(time.Hour)
		ear.Sent()
		reach := discovery.Reach{Callers: []discovery.Caller{
			{Interface: "eth0", Address: netip.MustParsePrefix("10.5.0.5/16")},
			{Interface: "eth1", Address: netip.MustParsePrefix("10.7.0.5/16")},
			{Interface: "none", Address: netip.MustParsePrefix("10.8.0.5/16")},
		}}
		require.NoError(t, x.SetReach(reach))
		after(300 * time.Millisecond)
		calls := map[string]int{}
		for _, c := range ear.Sent() {
			calls[c.Interface]++
		}
		require.Equal(t, map[string]int{"eth0": 3, "eth1": 3}, calls)
		require.EqualValues(t, 3, x.Counts().Failed["call"])
		require.NoError(t, x.SetReach(discovery.Reach{Callers: reach.Callers[:1]}))
		after(300 * time.Millisecond)
		require.Empty(t, ear.Sent(), "nothing new to call on")
		require.ErrorContains(t, x.SetReach(discovery.Reach{Callers: []discovery.Caller{{Interface: "eth0", Address: netip.MustParsePrefix("fe80::1/64")}}}), "an IPv4 address")
	})
}

func TestFloodOfCallsIsBoundedAndDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		ear, source := earOn(&n), earOn(&n)
		victim := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.5/32", calling(ear, "10.5.0.5/16"))
		insider := startWith(t, &n, at("10.5.0.6", 0), "10.5.0.6/32", calling(source, "10.5.0.6/16"))
		after(5 * time.Minute)
		insider.stop()
		call := source.Sent()[0].Bytes
		victim.knows() // it is gone
		n.Sent()
		before := victim.Counts()
		local := netip.MustParseAddr("fe80::9%eth0")
		forged := make([]byte, len(call))
		copy(forged, call)
		forged[90]++
		for range 10 * 1000 { // ten seconds
			for range 5 {
				ear.Inject(local, call)
				ear.Inject(local, forged)
			}
			after(time.Millisecond)
		}
		counts := victim.Counts()
		seen := counts.Refused["rate"] + counts.Refused["mac"] + counts.Heard - before.Heard
		require.InDelta(t, 10*500, seen, 200, "the others were never read")
		require.LessOrEqual(t, counts.Heard-before.Heard, uint64(10))
		probes := 0
		for _, d := range probesOf(victim.addr, n.Sent()) {
			if d.To == insider.addr {
				probes++
			}
		}
		require.LessOrEqual(t, probes, 10+30, "one a second, beside those for who is missing")
		_, found := victim.foundAt(at("10.5.0.9", 0))
		require.False(t, found)
	})
}

func TestNodeWithoutIPv6WorksAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		here := startWith(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", func(c *discovery.Config) {
			calling(nil, "10.0.0.1/29")(c)
			c.Calls = func() (discovery.CallConn, error) { return nil, errors.New("no IPv6") }
		})
		other := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		after(time.Second)
		requireFound(t, here, other)
		require.Zero(t, here.Counts().Called)
	})
}

func TestCallsOfAWholeNetworkStayFewAsItGrows(t *testing.T) {
	for nodes, most := range map[int]float64{2: 0.3, 20: 0.3} {
		synctest.Test(t, func(t *testing.T) {
			var n discoverytest.Net
			var all []*node
			var ears []*discoverytest.Ear
			for i := range nodes {
				ears = append(ears, earOn(&n))
				addr := fmt.Sprintf("10.0.0.%d", i+1)
				all = append(all, startWith(t, &n, at(addr, 0), "10.0.0.0/24", calling(ears[i], addr+"/24")))
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
			after(time.Hour)
			calls := 0
			for _, e := range ears {
				e.Sent()
			}
			after(2 * time.Hour)
			for _, e := range ears {
				calls += len(e.Sent())
			}
			require.LessOrEqual(t, float64(calls)/7200, most)
			require.NotZero(t, calls)
		})
	}
}
