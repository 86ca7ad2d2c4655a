package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// A keyed node has a key file of its own.
type keyed struct {
	*cluster.Node
	file string
}

// startKeyed runs n nodes of one network, each with a copy of the keys in a file of
// its own, until the test ends. They see each other.
func startKeyed(t *testing.T, n int, keys ...[]byte) []keyed {
	t.Helper()
	subnet := cluster.RandomSubnet(28)
	var nodes []keyed
	for i := range n {
		nodes = append(nodes, addKeyed(t, cluster.Config{Subnet: subnet}, i+1, keys...))
	}
	for _, x := range nodes {
		_, err := x.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == n-1 })
		require.NoError(t, err)
	}
	return nodes
}

func addKeyed(t *testing.T, cfg cluster.Config, host int, keys ...[]byte) keyed {
	t.Helper()
	cfg.Binary, cfg.Network, cfg.Key = irisBinary, "rotation", filepath.Join(t.TempDir(), "key.pem")
	replaceKeys(t, cfg.Key, keys...)
	c, err := cluster.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, c)
		}
		require.NoError(t, c.Close())
	})
	x, err := c.Add(host)
	require.NoError(t, err)
	return keyed{x, cfg.Key}
}

// keyBytes makes the content of a key file.
func keyBytes(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "new.pem")
	require.NoError(t, cluster.WriteKey(file))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return b
}

// replaceKeys writes a key file anew, all at once.
func replaceKeys(t *testing.T, file string, keys ...[]byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", slices.Concat(keys...), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// awaitKeys waits until a node tells that its keys are as is says, and returns them.
func (x keyed) awaitKeys(t *testing.T, is func(s node.Status) bool) node.Keys {
	t.Helper()
	s, err := x.AwaitStatus(t.Context(), patience, is)
	require.NoError(t, err)
	return *s.Keys
}

func TestKeyRotationFailsNoRequest(t *testing.T) {
	before, after := keyBytes(t), keyBytes(t)
	nodes := startKeyed(t, 6, before)
	for _, x := range nodes[:3] {
		serve(t, x.Node, "work", slowly)
	}
	conn := connect(t, nodes[5].Node)
	_, err := conn.Request(t.Context(), "work", nil)
	require.NoError(t, err)
	first := nodes[0].awaitKeys(t, func(node.Status) bool { return true })
	oldName, ids := first.Signs, idsOf(t, nodes)

	rotated := make(chan struct{})
	loaded := make(chan []*tally)
	go func() { // ends with the rotation, which is bounded
		var results []*tally
		for {
			select {
			case <-rotated:
				loaded <- append(results, steadily(t, conn, 500, time.Second))
				return
			default:
				results = append(results, steadily(t, conn, 500, time.Second))
			}
		}
	}()

	began := time.Now()
	allOn := func(signs string, accepts int) func(node.Status) bool {
		return func(s node.Status) bool {
			return s.Keys.Signs == signs && len(s.Keys.Accepts) == accepts && len(s.Peers) == 5 &&
				!slices.ContainsFunc(s.Peers, func(p node.Peer) bool { return p.Key != signs })
		}
	}
	phase := func(signs string, keys ...[]byte) {
		for _, x := range nodes {
			replaceKeys(t, x.file, keys...)
		}
		for _, x := range nodes {
			x.awaitKeys(t, allOn(signs, len(keys)-1))
		}
		t.Logf("%d keys in the files, %s signs: on all nodes %v after the start", len(keys), signs, time.Since(began).Round(time.Millisecond))
	}
	finish := func() (sent int, failed map[error]int) {
		close(rotated)
		failed = map[error]int{}
		for _, r := range <-loaded {
			sent += r.answered
			for err, n := range r.failed {
				sent += n
				failed[err] += n
			}
		}
		return sent, failed
	}
	phase(oldName, before, after)
	newName := nodes[0].awaitKeys(t, func(s node.Status) bool { return len(s.Keys.Accepts) == 1 }).Accepts[0]
	phase(newName, after, before)
	phase(newName, after)
	took := time.Since(began)
	sent, failed := finish()
	t.Logf("rotation of six nodes in three steps: %v; %d requests sent, failed: %v", took.Round(time.Millisecond), sent, failed)
	require.Empty(t, failed)
	require.Greater(t, sent, 500)
	require.Equal(t, ids, idsOf(t, nodes), "nodes stay who they are")

	// Who has only the old key is a stranger now.
	refused := func(s node.Status) uint64 { return s.RefusedTotal() }
	s, err := nodes[0].Status(t.Context())
	require.NoError(t, err)
	had := refused(s)
	subnet := nodes[0].Bind.Masked()
	stranger := addKeyed(t, cluster.Config{Subnet: subnet}, 9, before)
	s, err = stranger.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return s.Converged })
	require.NoError(t, err)
	require.Empty(t, s.Peers)
	s, err = nodes[0].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return refused(s) > had })
	require.NoError(t, err)
	require.Len(t, s.Peers, 5)
}

func idsOf(t *testing.T, nodes []keyed) []string {
	t.Helper()
	var ids []string
	for _, x := range nodes {
		s, err := x.Status(t.Context())
		require.NoError(t, err)
		ids = append(ids, s.Node)
	}
	return ids
}

func TestRemovedKeyCutsTheLinkOfWhoStillUsesIt(t *testing.T) {
	before, after := keyBytes(t), keyBytes(t)
	nodes := startKeyed(t, 2, before)
	replaceKeys(t, nodes[0].file, after)
	s, err := nodes[0].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 0 && s.Refused["key-removed"] > 0 })
	require.NoError(t, err, "%v", s)
	_, err = nodes[1].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 0 })
	require.NoError(t, err)
	replaceKeys(t, nodes[1].file, after)
	for _, x := range nodes {
		s, err := x.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 1 })
		require.NoError(t, err)
		require.Equal(t, s.Keys.Signs, s.Peers[0].Key)
	}
}

func TestKeyFileThatCannotBeReadAgainChangesNothing(t *testing.T) {
	good := keyBytes(t)
	nodes := startKeyed(t, 2, good)
	x := nodes[0]
	first := x.awaitKeys(t, func(node.Status) bool { return true })
	spoils := []struct {
		spoil func() error
		tells string
	}{
		{func() error { return os.WriteFile(x.file, []byte("garbage"), 0o600) }, "no RSA private key in it"},
		{func() error { return os.Remove(x.file) }, "give its path with -rsa"},
		{func() error { replaceKeys(t, x.file, good); return os.Chmod(x.file, 0o644) }, "chmod 600"},
		{func() error { replaceKeys(t, x.file, keyBytes(t)[:500]); return nil }, "no RSA private key in it"},
	}
	for i, row := range spoils {
		require.NoError(t, row.spoil())
		now := x.awaitKeys(t, func(s node.Status) bool { return strings.Contains(s.Keys.Failed, row.tells) })
		require.Equal(t, first.Signs, now.Signs)
		require.Equal(t, first.Loaded, now.Loaded)
		log, err := os.ReadFile(x.Log)
		require.NoError(t, err)
		require.Equal(t, i+1, strings.Count(string(log), "level=ERROR"), "once per change")
	}
	port := strconv.Itoa(x.Port)
	require.Contains(t, run(t, "", "status", "-port", port).out, "KEY FILE NOT READ")
	require.Contains(t, run(t, "", "keys", "-port", port).out, "READING FAILED")
	s, err := nodes[1].Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Peers, 1)

	replaceKeys(t, x.file, good)
	now := x.awaitKeys(t, func(s node.Status) bool { return s.Keys.Failed == "" })
	require.True(t, now.Loaded.After(first.Loaded))
	require.True(t, now.FailedAt.IsZero())
}

// The file looks as before, so that nothing but the signal tells of the change.
func TestHangupReadsTheKeysAgain(t *testing.T) {
	one, other := keyBytes(t), keyBytes(t)
	for len(one) != len(other) {
		other = keyBytes(t)
	}
	x := startKeyed(t, 1, one)[0]
	first := x.awaitKeys(t, func(node.Status) bool { return true })
	info, err := os.Stat(x.file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(x.file+".new", other, 0o600))
	require.NoError(t, os.Chtimes(x.file+".new", time.Time{}, info.ModTime()))
	require.NoError(t, os.Rename(x.file+".new", x.file))
	require.NoError(t, x.Signal(syscall.SIGHUP))
	x.awaitKeys(t, func(s node.Status) bool { return s.Keys.Signs != first.Signs })
}

func TestKeysTellsHowManyPeersAreOnWhichKey(t *testing.T) {
	before, after := keyBytes(t), keyBytes(t)
	nodes := startKeyed(t, 3, before, after)
	replaceKeys(t, nodes[2].file, after, before)
	x := nodes[0]
	x.awaitKeys(t, func(s node.Status) bool { return len(s.Peers) == 2 && s.Peers[0].Key != s.Peers[1].Key })

	port := strconv.Itoa(x.Port)
	o := run(t, "", "keys", "-port", port, "-json")
	require.Zero(t, o.code, o.errors)
	var report struct {
		node.Keys
		Peers map[string]int
	}
	require.NoError(t, json.Unmarshal([]byte(o.out), &report))
	require.Len(t, report.Signs, 8)
	require.Len(t, report.Accepts, 1)
	require.Equal(t, map[string]int{report.Signs: 1, report.Accepts[0]: 1}, report.Peers)
	require.WithinDuration(t, time.Now(), report.Loaded, patience)

	text := strings.Fields(run(t, "", "keys", "-port", port).out)
	require.Equal(t, []string{"KEY", "THIS", "NODE", "PEERS", report.Signs, "signs", "1", report.Accepts[0], "accepts", "1"}, text[:10])
}
