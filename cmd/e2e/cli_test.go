package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

func TestHelpStartsAsEver(t *testing.T) {
	help := run(t, "", "--help")
	require.Zero(t, help.code)
	lines := strings.Split(help.out, "\n")
	require.Equal(t, "Server node of the Iris decentralized cloud messaging framework.", lines[0])
	at := 0
	for _, option := range []string{
		"-dev [=false] start in local developer mode (random cluster and key)",
		"-net name of the cluster to join or create",
		"-port [=55555] relay endpoint for locally connecting clients",
		"-rsa path to the RSA private key to use for data security",
		"-bind ADDR/MASK",
	} {
		i := strings.Index(help.out, option)
		require.Greater(t, i, at, option)
		at = i
	}
}

func TestKeygenWritesAKeyForItsOwnerAndNeverOverwrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	require.Zero(t, run(t, "", "keygen", "-out", file, "-bits", "2048").code)
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	before, err := os.ReadFile(file)
	require.NoError(t, err)

	again := run(t, "", "keygen", "-out", file)
	require.Equal(t, 1, again.code)
	require.Contains(t, again.errors, "exists and is left alone")
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestWrongCommandLinesExitWithUsage(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, cluster.WriteKey(key))
	for _, args := range [][]string{
		{"nonsense"},
		{"-nonsense"},
		{"-net", "only-a-name"},
		{"-port", "0", "-dev"},
		{"-port", "70000", "-dev"},
		{"-dev", "-net", "name"},
		{"-net", "n", "-rsa", key, "-bind", "127.0.0.1"},
		{"-net", "n", "-rsa", key, "-bind", "nowhere/8"},
		{"-dev", "-log-level", "loud"},
		{"-dev", "stray"},
		{"keygen"},
		{"keygen", "-out", filepath.Join(t.TempDir(), "k"), "-bits", "1024"},
		{"request"},
		{"request", "-timeout", "soon", "name"},
		{"request", "a", "b", "c"},
		{"reply", "name"},
		{"reply", "name", "--"},
		{"reply", "name", "--", "no-such-command-anywhere"},
		{"status", "stray"},
	} {
		o := run(t, "", args...)
		require.Equal(t, 2, o.code, "iris %v: %s", args, o.errors)
		require.True(t, strings.HasPrefix(o.errors, "iris: "), o.errors)
	}
}

func TestBadKeysExitWithAuthenticationAndTellTheRemedy(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.pem")
	require.NoError(t, cluster.WriteKey(open))
	require.NoError(t, os.Chmod(open, 0o644))
	garbage := filepath.Join(dir, "garbage.pem")
	require.NoError(t, os.WriteFile(garbage, []byte("no key"), 0o600))
	for file, remedy := range map[string]string{
		open:                             "chmod 600",
		garbage:                          "iris keygen",
		filepath.Join(dir, "absent.pem"): "iris keygen",
	} {
		o := run(t, "", "-net", "n", "-rsa", file, "-bind", "127.0.83.1/30")
		require.Equal(t, 6, o.code, o.errors)
		require.Contains(t, o.errors, remedy)
	}
}

func TestToolsSayThatThereIsNoNode(t *testing.T) {
	for _, args := range [][]string{{"request", "-port", "1", "name"}, {"status", "-port", "1"}, {"reply", "-port", "1", "name", "--", "cat"}} {
		o := run(t, "", args...)
		require.Equal(t, 3, o.code, "iris %v: %s", args, o.errors)
	}
}

func TestRequestAndReplyThroughTwoNodes(t *testing.T) {
	c := startCluster(t, 2)
	startReply(t, c.Nodes[0], "upper", "tr", "a-z", "A-Z")
	startReply(t, c.Nodes[0], "broken", "sh", "-c", "echo it is broken >&2; exit 3")
	startReply(t, c.Nodes[0], "slow", "sleep", "60")
	port := strconv.Itoa(c.Nodes[1].Port)

	o := run(t, "", "request", "-port", port, "upper", "hello")
	require.Equal(t, "HELLO", o.out)
	require.Zero(t, o.code, o.errors)

	long := strings.Repeat("lorem ipsum ", 50_000)
	o = run(t, long, "request", "-port", port, "upper", "-")
	require.Equal(t, strings.ToUpper(long), o.out)

	o = run(t, "", "request", "-port", port, "broken", "x")
	require.Equal(t, 1, o.code)
	require.Equal(t, "iris: it is broken\n", o.errors)

	o = run(t, "", "request", "-port", port, "nobody", "x")
	require.Equal(t, 4, o.code, o.errors)

	o = run(t, "", "request", "-port", port, "-timeout", "300ms", "slow", "x")
	require.Equal(t, 5, o.code, o.errors)
}

// startReply runs `iris reply` on node n until the test ends, and returns when
// it serves.
func startReply(t *testing.T, n *cluster.Node, name string, command ...string) {
	t.Helper()
	args := append([]string{"reply", "-port", strconv.Itoa(n.Port), name, "--"}, command...)
	cmd := exec.Command(irisBinary, args...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "serving "+name)
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		var rest []string
		for lines.Scan() {
			rest = append(rest, lines.Text())
		}
		require.NoError(t, cmd.Wait(), "iris %v: %v", args, rest)
	})
}

func TestStatusTellsPeersAndClusters(t *testing.T) {
	c := startCluster(t, 2)
	serve(t, c.Nodes[0], "work", echo)
	port := strconv.Itoa(c.Nodes[1].Port)
	o := run(t, "", "status", "-port", port, "-json")
	require.Zero(t, o.code, o.errors)
	var s node.Status
	require.NoError(t, json.Unmarshal([]byte(o.out), &s))
	require.Equal(t, c.Network(), s.Network)
	require.True(t, s.Converged)
	require.Len(t, s.Peers, 1)
	require.Len(t, s.Peers[0].Node, 64)
	require.Contains(t, s.Peers[0].Address, c.Nodes[0].Bind.Addr().String())
	require.Equal(t, 1, s.Members("work"))
	link := s.Peers[0].Link
	require.Positive(t, min(link.MessagesSent, link.MessagesReceived, link.BytesSent, link.BytesReceived, link.CongestionWindow))
	require.LessOrEqual(t, link.PacketsLost, link.PacketsSent)

	o = run(t, "", "status", "-port", port)
	require.Contains(t, o.out, s.Peers[0].Address)
	require.Contains(t, o.out, "work")
}
