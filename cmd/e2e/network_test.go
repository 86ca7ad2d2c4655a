package e2e

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

func TestThreeNodesServeEachOtherSoonAfterTheLastStarts(t *testing.T) {
	var times []time.Duration
	for range 10 {
		c := startCluster(t, 3)
		for i, n := range c.Nodes {
			serve(t, n, string(rune('a'+i)), echo)
		}
		for _, n := range c.Nodes {
			conn := connect(t, n)
			for i := range c.Nodes {
				reply, err := conn.Request(t.Context(), string(rune('a'+i)), []byte("hello"))
				require.NoError(t, err)
				require.Equal(t, "hello", string(reply))
			}
		}
		times = append(times, time.Since(c.Nodes[2].Started))
	}
	slices.Sort(times)
	t.Logf("from the start of the last node, median of 10: %v (%v … %v)", times[5], times[0], times[9])
	require.Less(t, times[5], 1500*time.Millisecond)
}

func TestTwelveNodesConverge(t *testing.T) {
	c := startCluster(t, 12)
	took := time.Since(c.Nodes[11].Started)
	t.Logf("twelve nodes see each other %v after the last was started", took)
	require.Less(t, took, 2*time.Second)
}

func TestStrangersNeverAppearAndAreCounted(t *testing.T) {
	home := startCluster(t, 2)
	subnet := home.Subnet()
	otherKey := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, cluster.WriteKey(otherKey))
	strangers := []cluster.Config{
		{Binary: irisBinary, Subnet: subnet, Key: otherKey, Network: home.Network()},
		{Binary: irisBinary, Subnet: subnet, Key: home.Key(), Network: "another"},
	}
	for i, cfg := range strangers {
		other, err := cluster.Start(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, other.Close()) })
		stranger, err := other.Add(5 + i)
		require.NoError(t, err)
		s, err := stranger.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return s.Converged })
		require.NoError(t, err)
		require.Empty(t, s.Peers)
	}
	for _, n := range home.Nodes {
		s, err := n.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return s.RefusedTotal() > 0 })
		require.NoError(t, err)
		require.Len(t, s.Peers, 1, "only the other node of this network")
	}
}

func TestManyClientsOnEveryNodeAtOnce(t *testing.T) {
	c := startCluster(t, 3)
	for _, n := range c.Nodes {
		serve(t, n, "echo", echo)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		n := c.Nodes[i%3]
		conn := connect(t, n)
		wg.Go(func() {
			for j := range 200 {
				message := []byte{byte(i), byte(j)}
				reply, err := conn.Request(t.Context(), "echo", message)
				if err != nil || string(reply) != string(message) {
					t.Errorf("client %d, request %d: %q, %v", i, j, reply, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
