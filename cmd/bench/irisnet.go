package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/project-iris/iris/cmd/internal/cli"
	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

// startIris builds iris, starts two nodes and the service. With profile the
// nodes run inside this program, each under a CPU profiler.
func startIris(ctx context.Context, profile string) (*system, error) {
	s := &system{name: "iris", profile: profile}
	dir, err := os.MkdirTemp("", "iris-bench-")
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
	cfg := cluster.Config{Nodes: 2, Binary: filepath.Join(dir, "iris")}
	if profile != "" {
		if cfg.Binary, err = os.Executable(); err != nil {
			return nil, err
		}
		cfg.Args = []string{"-role", "node", "-spec", profile, "--"}
	} else if out, err := exec.CommandContext(ctx, "go", "build", "-o", cfg.Binary, "github.com/project-iris/iris/cmd/iris").CombinedOutput(); err != nil {
		s.stop()
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	nodes, err := cluster.Start(ctx, cfg)
	if err != nil {
		s.stop()
		return nil, err
	}
	s.closers = append(s.closers, nodes.Shutdown)
	s.env = nodes.Env()
	for i, n := range nodes.Nodes {
		s.ports[i], s.pids[i] = n.Port, n.PID()
	}
	if err := nodes.AwaitPeers(ctx, 10*time.Second); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.startService(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// runIrisNode is the role of a node under the profiler.
func runIrisNode(folder string, args []string) error {
	stop, err := startProfile(filepath.Join(folder, fmt.Sprintf("node-%d.pprof", os.Getpid())))
	if err != nil {
		return err
	}
	code := cli.Main(args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	if code != 0 {
		return fmt.Errorf("the node ended with exit code %d", code)
	}
	return nil
}

// An echoService replies with the request.
type echoService struct{}

func (echoService) Init(*iris.Connection) error            { return nil }
func (echoService) HandleRequest(b []byte) ([]byte, error) { return b, nil }
func (echoService) HandleBroadcast([]byte)                 {}
func (echoService) HandleTunnel(*iris.Tunnel)              {}
func (echoService) HandleDrop(reason error) {
	fmt.Fprintln(os.Stderr, "bench: service dropped:", reason)
}

// irisService serves echo until stdin ends.
func irisService(port int) error {
	s, err := iris.Register(port, subject, echoService{}, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	awaitEnd()
	return s.Unregister()
}

// irisRequester attaches a client.
func irisRequester(port int) (func([]byte) ([]byte, error), func(), error) {
	conn, err := iris.Connect(port)
	if err != nil {
		return nil, nil, err
	}
	request := func(b []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return conn.Request(ctx, subject, b)
	}
	return request, func() { _ = conn.Close() }, nil
}
