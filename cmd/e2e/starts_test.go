package e2e

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
)

// With -starts, how long starts take is measured, and the tail has to be right, too; without it a
// few show that it works.
var startsFlag = flag.Int("starts", 0, "how many starts of nodes to measure, 50 for a 99th percentile that means something; those that take long by design a fifth of it")

// A spread is how long each of several starts took.
type spread []time.Duration

// at is the time that so large a part of all took at most.
func (s spread) at(part float64) time.Duration {
	slices.Sort(s)
	return s[int(math.Ceil(part*float64(len(s))))-1] // nearest rank
}

func (s spread) String() string {
	return fmt.Sprintf("%d starts: p50 %v, p90 %v, p99 %v, max %v", len(s), s.at(0.5), s.at(0.9), s.at(0.99), s.at(1))
}

// awaitLogged waits until n has logged text so many times: what it tells clients, it tells
// later.
func awaitLogged(t *testing.T, n *cluster.Node, text string, times int) {
	t.Helper()
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(n.Log)
		return err == nil && strings.Count(string(log), text) >= times
	}, patience, time.Millisecond, "%s: %s", n.Bind, text)
}

// startPairs measures, on an otherwise empty subnet, from the start of a second node until both have
// their link.
func startPairs(t *testing.T, starts, bits int) (times spread) {
	t.Helper()
	key := newKey(t)
	for range starts {
		c := startWith(t, cluster.Config{Key: key, Bits: bits, Args: []string{"-log-level", "debug"}})
		hosts := rand.Perm(1<<(32-bits) - 2)
		first, err := c.Add(1 + hosts[0])
		require.NoError(t, err)
		awaitLogged(t, first, "node started", 1)
		second, err := c.Add(1 + hosts[1])
		require.NoError(t, err)
		awaitLogged(t, first, "peer linked", 1)
		awaitLogged(t, second, "peer linked", 1)
		times = append(times, time.Since(second.Started))
		if bits >= 24 && times[len(times)-1] > 700*time.Millisecond {
			dumpLogs(t, c)
		}
		require.NoError(t, c.Close())
	}
	return times
}

func TestTwoNodesOnAnEmptySubnetLinkAtOnce(t *testing.T) {
	times := startPairs(t, max(20, *startsFlag), 24)
	t.Logf("two nodes on a /24: %v", times)
	require.Less(t, times.at(0.5), 700*time.Millisecond)
	if *startsFlag > 0 {
		require.Less(t, times.at(0.99), time.Second)
	}
}

func TestTwoNodesOnALargeSubnetFindEachOtherByProbingAlone(t *testing.T) {
	times := startPairs(t, max(1, *startsFlag/5), 20)
	t.Logf("two nodes on a /20: %v", times)
	require.Less(t, times.at(1), patience)
}

func TestKilledNodeIsBackAtOnce(t *testing.T) {
	for _, remembers := range []bool{false, true} {
		t.Run(fmt.Sprintf("remembers %v", remembers), func(t *testing.T) {
			home := startWith(t, cluster.Config{Bits: 24})
			stays, err := home.Add(17)
			require.NoError(t, err)
			again := cluster.Config{Subnet: home.Subnet(), Key: home.Key(), Network: home.Network()}
			file := filepath.Join(t.TempDir(), "peers")
			if remembers {
				again.Args = []string{"-state", file}
			}
			restarted, err := startWith(t, again).Add(203)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				kept, _ := os.ReadFile(file)
				return !remembers || strings.Contains(string(kept), stays.Bind.Addr().String())
			}, patience, 10*time.Millisecond)
			var times spread
			for i := range max(5, 2**startsFlag/5) {
				awaitLogged(t, restarted, "ready: clients may attach", i+1)
				require.NoError(t, restarted.Kill())
				require.NoError(t, restarted.Start())
				awaitLogged(t, stays, "peer linked", i+2)
				awaitLogged(t, restarted, "peer linked", i+2)
				times = append(times, time.Since(restarted.Started))
			}
			t.Logf("a killed node is back: %v", times)
			require.Less(t, times.at(0.5), 500*time.Millisecond)
			if *startsFlag > 0 {
				require.Less(t, times.at(0.99), 500*time.Millisecond)
			}
		})
	}
}
