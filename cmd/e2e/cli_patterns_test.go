package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

// startTool runs an iris command until the test ends, and returns its stdout once
// its stderr has said ready.
func startTool(t *testing.T, ready string, args ...string) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command(irisBinary, args...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), ready)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
		require.NoError(t, cmd.Wait(), "iris %v", args)
	})
	return bufio.NewScanner(stdout)
}

func portOf(n *cluster.Node) string { return strconv.Itoa(n.Port) }

func TestPublishAndSubscribeThroughTwoNodes(t *testing.T) {
	c := startCluster(t, 2)
	plain := startTool(t, "subscribed to news", "subscribe", "-port", portOf(c.Nodes[0]), "-count", "4", "news")
	asJSON := startTool(t, "subscribed to news", "subscribe", "-port", portOf(c.Nodes[1]), "-json", "-count", "4", "news")

	require.Zero(t, run(t, "", "publish", "-port", portOf(c.Nodes[1]), "news", "one").code)
	require.Zero(t, run(t, "two\nthree\nfour\n", "publish", "-port", portOf(c.Nodes[1]), "-lines", "news").code)
	for _, want := range []string{"one", "two", "three", "four"} {
		require.True(t, plain.Scan())
		require.Equal(t, want, plain.Text())
		require.True(t, asJSON.Scan())
		var event struct{ Topic, Text string }
		require.NoError(t, json.Unmarshal(asJSON.Bytes(), &event))
		require.Equal(t, "news", event.Topic)
		require.Equal(t, want, event.Text)
	}
	require.False(t, plain.Scan(), "it ends after -count events")
}

func TestTunnelConnectsPipes(t *testing.T) {
	c := startCluster(t, 2)
	startTool(t, "serving sorter", "tunnel", "-port", portOf(c.Nodes[0]), "-accept", "sorter", "--", "sort")
	startTool(t, "serving broken", "tunnel", "-port", portOf(c.Nodes[0]), "-accept", "broken", "--", "sh", "-c", "echo it is broken >&2; exit 3")

	lines := strings.Repeat("c\na\nb\n", 50_000)
	o := run(t, lines, "tunnel", "-port", portOf(c.Nodes[1]), "sorter")
	require.Zero(t, o.code, o.errors)
	require.Equal(t, strings.Repeat("a\n", 50_000)+strings.Repeat("b\n", 50_000)+strings.Repeat("c\n", 50_000), o.out)

	o = run(t, "", "tunnel", "-port", portOf(c.Nodes[1]), "broken")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.errors, "it is broken")

	o = run(t, "", "tunnel", "-port", portOf(c.Nodes[1]), "nobody")
	require.Equal(t, 4, o.code, o.errors)
}

// A hearer passes on the broadcasts that it gets.
type hearer struct {
	service
	heard chan string
}

func (h *hearer) HandleBroadcast(message []byte) { h.heard <- string(message) }

func TestBroadcastReachesEveryMember(t *testing.T) {
	c := startCluster(t, 2)
	heard := make(chan string, 2)
	for _, n := range c.Nodes {
		s, err := iris.Register(n.Port, "group", &hearer{heard: heard}, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Unregister()) })
	}
	require.Zero(t, run(t, "", "broadcast", "-port", portOf(c.Nodes[0]), "group", "hello").code)
	for range c.Nodes {
		select {
		case message := <-heard:
			require.Equal(t, "hello", message)
		case <-time.After(patience):
			t.Fatal("a member did not hear the broadcast")
		}
	}
}

func TestBenchMeasuresEveryPattern(t *testing.T) {
	c := startCluster(t, 2)
	for _, pattern := range []string{"request", "broadcast", "publish", "tunnel"} {
		o := run(t, "", "bench", "-port", portOf(c.Nodes[0]), "-serve-port", portOf(c.Nodes[1]), "-time", "300ms", "-rate", "500", "-c", "4", "-json", pattern)
		require.Zero(t, o.code, o.errors)
		var report struct {
			Pattern string
			Latency struct {
				Count  int64
				Errors map[string]int
			}
		}
		require.NoError(t, json.Unmarshal([]byte(o.out), &report))
		require.Equal(t, pattern, report.Pattern)
		require.InDelta(t, 150, report.Latency.Count, 30, "%s: 500 a second for 0.3 s", pattern)
		require.Empty(t, report.Latency.Errors)
	}
}
