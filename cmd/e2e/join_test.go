package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// startWith runs a cluster with more options, without waiting for peers, until the test ends.
func startWith(t *testing.T, cfg cluster.Config) *cluster.Cluster {
	t.Helper()
	cfg.Binary = irisBinary
	c, err := cluster.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, c)
		}
		require.NoError(t, c.Close())
	})
	return c
}

// awaitPeers waits until each of the nodes has as many peers.
func awaitPeers(t *testing.T, peers int, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		_, err := n.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == peers })
		require.NoError(t, err, "%s", n.Bind)
	}
}

func TestSeedJoinsTwoSubnetsAndMayThenDie(t *testing.T) {
	for _, named := range []bool{false, true} {
		home := startCluster(t, 2)
		seed := home.Nodes[0].Bind.Addr().String()
		// A name that does not resolve must not keep the other from working.
		args := []string{"-join", "name.invalid," + seed}
		if named {
			args = []string{"-join", seed + ":23550"}
		}
		away := startWith(t, cluster.Config{Nodes: 2, Args: args, Key: home.Key(), Network: home.Network()})
		require.False(t, home.Subnet().Overlaps(away.Subnet()))
		all := slices.Concat(home.Nodes, away.Nodes)
		awaitPeers(t, 3, all...)
		serve(t, home.Nodes[1], "far", echo)

		require.NoError(t, home.Nodes[0].Kill())
		rest := all[1:]
		awaitPeers(t, 2, rest...)
		for _, n := range away.Nodes {
			reply, err := connect(t, n).Request(within(patience), "far", []byte("still there?"))
			require.NoError(t, err)
			require.Equal(t, "still there?", string(reply))
		}
		if !named {
			log, err := os.ReadFile(away.Nodes[0].Log)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(log), "cannot look up a host to join"), "%s", log)
		}
	}
}

func TestJoinIsReadFromTheEnvironmentAndChecked(t *testing.T) {
	home := startCluster(t, 1)
	t.Setenv("IRIS_JOIN", home.Nodes[0].Bind.Addr().String())
	away := startWith(t, cluster.Config{Nodes: 1, Key: home.Key(), Network: home.Network()})
	awaitPeers(t, 1, home.Nodes[0], away.Nodes[0])

	for _, args := range [][]string{
		{"-net", "n", "-rsa", home.Key(), "-bind", "127.83.1.1/28", "-join", "host:0"},
		{"-net", "n", "-rsa", home.Key(), "-bind", "127.83.1.1/28", "-join", "a b"},
		{"-dev", "-join", "127.0.0.1"},
		{"-dev", "-state", "file"},
	} {
		o := run(t, "", args...)
		require.Equal(t, 2, o.code, "%v: %s", args, o.errors)
	}
}

func TestRestartedNodeOfALargeSubnetIsBackAtOnce(t *testing.T) {
	subnet := cluster.RandomSubnet(16)
	dir := t.TempDir()
	home := startWith(t, cluster.Config{Subnet: subnet})
	for range 2 {
		n, err := home.Add(1 + rand.IntN(60_000))
		require.NoError(t, err)
		// The second finds the first in the large subnet by its own memory.
		_, err = n.AwaitStatus(t.Context(), patience, func(node.Status) bool { return true })
		require.NoError(t, err)
	}
	file := filepath.Join(dir, "peers")
	var seeds string
	for _, n := range home.Nodes {
		seeds += n.Bind.Addr().String() + ":23550\n"
	}
	require.NoError(t, os.WriteFile(file, []byte("no address\n"+seeds), 0o600))
	one := startWith(t, cluster.Config{Subnet: subnet, Key: home.Key(), Network: home.Network(), Args: []string{"-state", file}})
	n, err := one.Add(1 + rand.IntN(60_000))
	require.NoError(t, err)
	awaitPeers(t, 2, n)
	log, err := os.ReadFile(n.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "lines that are no addresses")

	var times []time.Duration
	for range 3 {
		require.NoError(t, n.Signal(os.Interrupt))
		_, err := n.Wait(within(patience))
		require.NoError(t, err)
		awaitPeers(t, 1, home.Nodes...)
		require.NoError(t, n.Start())
		// The node opens for clients when it has converged, later: its peers tell when they see it.
		awaitPeers(t, 2, home.Nodes...)
		times = append(times, time.Since(n.Started))
		awaitPeers(t, 2, n)
	}
	t.Logf("a restarted node is back after %v", times)
	require.Less(t, slices.Min(times), 500*time.Millisecond)
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(kept), "\n"), "%s", kept)
}

func newKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, cluster.WriteKey(key))
	return key
}
