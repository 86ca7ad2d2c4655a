package e2e

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

func TestThreeNodesServeEachOther(t *testing.T) {
	began := time.Now()
	c := startCluster(t, 3)
	t.Logf("three nodes see each other %v after the first was started", time.Since(began))
	for i, n := range c.Nodes {
		serve(t, n, string(rune('a'+i)), echo)
	}
	for _, n := range c.Nodes {
		conn := connect(t, n)
		for i := range c.Nodes {
			name := string(rune('a' + i))
			reply, err := conn.Request(t.Context(), name, []byte("hello"))
			require.NoError(t, err)
			require.Equal(t, "hello", string(reply))
		}
	}
	t.Logf("and serve each other %v after", time.Since(began))
}

func TestTwelveNodesConverge(t *testing.T) {
	began := time.Now()
	startCluster(t, 12)
	t.Logf("twelve nodes see each other after %v", time.Since(began))
}

func TestStrangersNeverAppearAndAreCounted(t *testing.T) {
	home := startCluster(t, 2)
	subnet := home.Subnet()
	otherKey := filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, cluster.WriteKey(otherKey))
	strangers := []cluster.Config{
		{Binary: binary, Subnet: subnet, Key: otherKey, Network: home.Network()},
		{Binary: binary, Subnet: subnet, Key: home.Key(), Network: "another"},
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
