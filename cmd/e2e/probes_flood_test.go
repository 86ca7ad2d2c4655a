package e2e

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// A prober forges probes that look right in all that it can know.
type prober struct {
	name string
	mark func(t *testing.T, c *cluster.Cluster) [2]byte // of the network's key, as far as it knows
}

// probers are one far away, and one on the same subnet, which overhears probes.
var probers = []prober{
	{"far away", func(*testing.T, *cluster.Cluster) [2]byte { return [2]byte{} }},
	{"on the subnet", overheardMark},
}

// overheardMark waits for a probe of a node to an address where nobody lives.
func overheardMark(t *testing.T, c *cluster.Cluster) [2]byte {
	t.Helper()
	empty := c.Nodes[0].Bind.Addr()
	for range 9 {
		empty = empty.Next()
	}
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(empty, 23550)))
	require.NoError(t, err)
	defer socket.Close()
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 96)
	n, err := socket.Read(b)
	require.NoError(t, err)
	require.Equal(t, "\x07IRS\x01", string(b[:n][:5]))
	return [2]byte(b[6:])
}

// forgedProbe is right but for its MAC.
func forgedProbe(mark [2]byte) forgery {
	b := append([]byte("\x07IRS\x01\x01"), mark[:]...)
	b = append(b, make([]byte, 88)...)
	return forgery{b, len(b) - 8}
}

func TestFloodOfForgedProbesHarmsNobody(t *testing.T) {
	for _, p := range probers {
		t.Run(p.name, func(t *testing.T) {
			c := startCluster(t, 2)
			forged := forgedProbe(p.mark(t, c))
			before, err := c.Nodes[0].Status(t.Context())
			require.NoError(t, err)
			r := withstand(t, c, 100_000, forged, func() {})
			after, err := c.Nodes[0].Status(t.Context())
			require.NoError(t, err)
			seen := int(after.Refused["probe-mac"] - before.Refused["probe-mac"])
			dropped := int(after.Refused["probe-flood"])
			t.Logf("%d of them were looked at, about %d dropped unseen, %d probes answered meanwhile", seen, dropped, after.Probes.Answered-before.Probes.Answered)
			require.Greater(t, seen, r.sent/40, "they get as far as the MAC")
			require.Less(t, after.Probes.Answered-before.Probes.Answered, uint64(1000), "forged ones are not answered")
			require.Len(t, after.Peers, 1)
			if runtime.GOOS == "linux" {
				require.Greater(t, dropped, r.sent/4)
				require.Less(t, r.user+r.system, 0.2)
			}
			require.Less(t, r.grown, 16<<20)
			require.Positive(t, r.harmless, "requests failed or were slowed down each time")
		})
	}
}

func TestNodeJoinsThroughAFloodOfForgedProbes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is dropped unseen: needs Linux")
	}
	for _, p := range probers {
		t.Run(p.name, func(t *testing.T) {
			c := startCluster(t, 1)
			victim := c.Nodes[0]
			s, err := victim.Status(t.Context())
			require.NoError(t, err)
			f := newFlood(t, s.Address, 50_000, forgedProbe(p.mark(t, c)))
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { f.run(ctx) })
			defer wg.Wait()
			defer stop()
			awaitLogged(t, victim, "a flood of forged probes: most are dropped unseen", 1)
			began := time.Now()
			newcomer, err := c.Add(2) // it knows nobody but the victim
			require.NoError(t, err)
			_, err = newcomer.AwaitStatus(t.Context(), 4*patience, func(s node.Status) bool { return len(s.Peers) == 1 })
			require.NoError(t, err)
			t.Logf("a node that came meanwhile had its link after %v", time.Since(began))
			stop()
			awaitLogged(t, victim, "the flood of forged probes is over", 1)
		})
	}
}
