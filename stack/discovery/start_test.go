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

func TestRestartedNodeFindsItsPeersWithoutSweeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		peer := start(t, &n, at("10.5.77.8", 3), "10.5.77.8/32", secret("net"))
		var last []netip.AddrPort
		for i := range 255 { // gone since
			last = append(last, at(fmt.Sprintf("10.5.200.%d", i), i%discovery.Ports))
		}
		here := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/16", func(c *discovery.Config) { c.Last = append(last, peer.addr) })
		after(500 * time.Millisecond)
		requireFound(t, here, peer)
		require.LessOrEqual(t, len(probesOf(here.addr, n.Sent())), 340)
	})
}

func TestLastPeerThatIsAwayIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		here := startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/16", func(c *discovery.Config) { c.Last = []netip.AddrPort{at("10.9.0.1", 4)} })
		after(time.Hour)
		peer := start(t, &n, at("10.9.0.1", 4), "10.9.0.1/32", secret("net"))
		after(3 * time.Second)
		requireFound(t, here, peer)
	})
}

// anyAddress makes a node one that listens on all addresses of its host.
func anyAddress(addrs ...string) func(*discovery.Config) {
	return func(c *discovery.Config) {
		c.Exclude = netip.AddrPortFrom(netip.IPv4Unspecified(), c.Exclude.Port())
		for _, a := range addrs {
			c.Host = append(c.Host, netip.MustParseAddr(a))
		}
	}
}

func TestOtherPortsOfTheHostComeFirstWhateverItListensOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		var nodes []*node
		for i := range discovery.Ports {
			nodes = append(nodes, startWith(t, &n, at("10.5.0.5", i), "10.5.0.0/16", anyAddress("10.5.0.5")))
		}
		after(100 * time.Millisecond)
		for _, x := range nodes {
			for _, y := range nodes {
				if x != y {
					requireFound(t, x, y)
				}
			}
			require.Zero(t, x.Counts().Refused["self"], "its own address was probed")
		}
	})
}

func TestBroadcastFindsNodesOfALargeSubnetAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		subnet := netip.MustParsePrefix("10.0.0.0/12")
		n.Share(subnet)
		casting := func(c *discovery.Config) { c.Broadcast = []netip.Prefix{subnet} }
		nodes := []*node{
			startWith(t, &n, at("10.5.0.5", 0), "10.5.0.0/16", casting),
			startWith(t, &n, at("10.6.100.100", 0), "10.6.0.0/16", casting),
			startWith(t, &n, at("10.7.200.200", 4), "10.7.0.0/16", casting),
		}
		after(100 * time.Millisecond)
		hits := uint64(0)
		for _, x := range nodes {
			for _, y := range nodes {
				if x != y {
					requireFound(t, x, y)
				}
			}
			require.Empty(t, x.Counts().Refused)
			hits += x.Counts().Hits
		}
		require.NotZero(t, hits)
		for _, d := range n.Sent() {
			require.Len(t, d.Bytes, discovery.Size)
		}
	})
}

func TestBroadcastIsAnsweredToItsNetworkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		subnet := netip.MustParsePrefix("10.0.0.0/20")
		n.Share(subnet)
		stranger := start(t, &n, at("10.0.7.7", 0), "10.0.7.7/32", secret("other"))
		here := startWith(t, &n, at("10.0.0.5", 0), "10.0.0.0/20", func(c *discovery.Config) { c.Broadcast = []netip.Prefix{subnet} })
		after(time.Second)
		require.NotZero(t, stranger.Counts().Refused["mac"])
		require.Zero(t, stranger.Counts().Answered)
		require.Zero(t, here.reports())
	})
}

func TestAnswerToABroadcastCountsFromItsSubnetOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		subnet := netip.MustParsePrefix("10.0.0.0/20")
		n.Share(subnet)
		away := at("10.9.0.1", 0)
		far := n.Listen(away)
		defer far.Close()
		start(t, &n, at("10.0.7.7", 0), "10.0.7.7/32", secret("net"))
		here := startWith(t, &n, at("10.0.0.5", 0), "10.0.0.0/20", func(c *discovery.Config) { c.Broadcast = []netip.Prefix{subnet} })
		after(100 * time.Millisecond)
		for _, d := range n.Sent() {
			if d.From == at("10.0.7.7", 0) && d.Bytes[5] == 2 {
				n.Inject(away, here.addr, d.Bytes)
			}
		}
		after(time.Millisecond)
		require.NotZero(t, here.Counts().Refused["stray"])
		_, found := here.foundAt(away)
		require.False(t, found)
	})
}

func TestSlowRoundsBroadcastToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		subnet := netip.MustParsePrefix("10.0.0.0/22")
		n.Share(subnet)
		here := startWith(t, &n, at("10.0.0.5", 0), "10.0.0.0/22", func(c *discovery.Config) { c.Broadcast = []netip.Prefix{subnet} })
		after(time.Hour)
		n.Sent()
		after(time.Hour)
		casts := 0
		for _, d := range probesOf(here.addr, n.Sent()) {
			if d.To.Addr() == netip.MustParseAddr("10.0.3.255") {
				casts++
			}
		}
		require.InDelta(t, 3600/8, casts, 2)
	})
}

func TestWrongSubnetDoesNotBlockTheRightOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		// The right one is as large as three others, and those of bridges come later still.
		here := startWith(t, &n, at("10.4.0.5", 0), "10.1.0.0/20", func(c *discovery.Config) {
			for _, s := range []string{"10.2.0.0/20", "10.3.0.0/20", "10.4.0.0/20"} {
				c.Subnets = append(c.Subnets, netip.MustParsePrefix(s))
			}
			c.Rear = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("172.18.0.0/24")}
		})
		began := time.Now()
		other := start(t, &n, at("10.3.9.9", 0), "10.3.9.9/32", secret("net"))
		for time.Since(began) < 115*time.Second {
			after(time.Second)
			if _, ok := here.foundAt(other.addr); ok {
				break
			}
		}
		requireFound(t, here, other)
		visits := make(map[netip.Addr]int)
		for _, d := range probesOf(here.addr, n.Sent()) {
			visits[netip.PrefixFrom(d.To.Addr(), 16).Masked().Addr()]++
		}
		require.InDelta(t, visits[netip.MustParseAddr("10.1.0.0")], visits[netip.MustParseAddr("10.3.0.0")], 20) // the found one is visited more often
		require.Zero(t, visits[netip.MustParseAddr("172.17.0.0")])
		require.Zero(t, visits[netip.MustParseAddr("172.18.0.0")])
		after(10 * time.Minute)
		bridge := 0
		for _, d := range probesOf(here.addr, n.Sent()) {
			if netip.MustParsePrefix("172.16.0.0/12").Contains(d.To.Addr()) {
				bridge++
			}
		}
		require.NotZero(t, bridge, "bridges are looked at, too")
	})
}

func TestStrangersAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		marked := func(name string, mark discovery.Mark) func(*discovery.Config) {
			return func(c *discovery.Config) { c.Secrets, c.Mark = [][]byte{secret(name)}, mark }
		}
		here := startWith(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", marked("net", discovery.Mark{1, 2}))
		startWith(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", marked("net, other name", discovery.Mark{1, 2}))
		startWith(t, &n, at("10.0.0.3", 0), "10.0.0.0/29", marked("net, other key", discovery.Mark{3, 4}))
		peer := startWith(t, &n, at("10.0.0.4", 0), "10.0.0.0/29", marked("net", discovery.Mark{1, 2}))
		after(time.Second)
		requireFound(t, here, peer)
		sameKey := make(map[netip.AddrPort]bool)
		for _, s := range here.Strangers() {
			sameKey[s.Addr] = s.SameKey
		}
		require.Equal(t, map[netip.AddrPort]bool{at("10.0.0.2", 0): true, at("10.0.0.3", 0): false}, sameKey)
	})
}

func TestFloodOfStrangersDisplacesButDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		here := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		forged := make([]byte, discovery.Size)
		copy(forged, "\x07IRS\x01\x01")
		for i := range 1000 {
			n.Inject(at(fmt.Sprintf("10.7.%d.%d", i/250, i%250), 0), here.addr, forged)
			synctest.Wait()
		}
		require.Len(t, here.Strangers(), 64)
		after(31 * time.Minute)
		require.Empty(t, here.Strangers())
	})
}
