// Package e2e tests whole networks of real iris processes on loopback
// addresses, through the SDK and the command line.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

// patience bounds every wait for something that takes well under a second on
// an idle machine; tests of how long something takes say so.
const patience = 30 * time.Second

// quiet is for clients whose node is meant to be lost.
var quiet = slog.New(slog.DiscardHandler)

// irisBinary is the iris that all tests run, built once by TestMain.
var irisBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "iris-e2e-")
	if err != nil {
		panic(err)
	}
	irisBinary = filepath.Join(dir, "iris")
	build := exec.Command("go", "build", "-o", irisBinary, "../iris")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("go build: %v\n%s", err, out))
	}
	// Sockets of -dev nodes and of the clients in this process.
	if err := os.Setenv("IRIS_RUNTIME_DIR", dir); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// startCluster runs n nodes that see each other, until the test ends.
func startCluster(t *testing.T, n int) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Config{Nodes: n, Binary: irisBinary})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, c)
		}
		require.NoError(t, c.Close())
	})
	require.NoError(t, c.AwaitPeers(t.Context(), patience))
	return c
}

func dumpLogs(t *testing.T, c *cluster.Cluster) {
	for _, n := range c.Nodes {
		log, _ := os.ReadFile(n.Log)
		t.Logf("log of %s:\n%s", n.Bind, log)
	}
}

// An outcome is how one iris command ended.
type outcome struct {
	code        int
	out, errors string
	took        time.Duration
}

// run runs the iris command line to its end.
func run(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, irisBinary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("iris %v: %v", args, err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), stderr.String(), time.Since(began)}
}

// serve registers handler on node n until the test ends.
func serve(t *testing.T, n *cluster.Node, name string, handle func([]byte) ([]byte, error)) *iris.Service {
	t.Helper()
	s, err := iris.Register(n.Port, name, &service{handle: handle}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Unregister() }) // the node may be dead by then
	return s
}

// connect attaches a client to node n until the test ends.
func connect(t *testing.T, n *cluster.Node) *iris.Connection {
	t.Helper()
	conn, err := iris.Connect(n.Port)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A service handles requests with a function.
type service struct {
	handle func([]byte) ([]byte, error)
}

func (s *service) Init(*iris.Connection) error                  { return nil }
func (s *service) HandleRequest(request []byte) ([]byte, error) { return s.handle(request) }
func (s *service) HandleBroadcast([]byte)                       {}
func (s *service) HandleTunnel(*iris.Tunnel)                    {}
func (s *service) HandleDrop(error)                             {}

// echo replies with the request.
func echo(request []byte) ([]byte, error) { return request, nil }
