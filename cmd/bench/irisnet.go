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

// A service of Iris, with a function for requests.
type service struct {
	handle  func([]byte) ([]byte, error)
	counter *counter
}

// Init has nothing to prepare.
func (s service) Init(*iris.Connection) error { return nil }

// HandleRequest answers with the function.
func (s service) HandleRequest(b []byte) ([]byte, error) { return s.handle(b) }

// HandleBroadcast counts a broadcast.
func (s service) HandleBroadcast([]byte) { s.counter.add() }

// HandleDrop says that the measurement is void.
func (s service) HandleDrop(reason error) { fmt.Fprintln(os.Stderr, "bench: service dropped:", reason) }

// HandleTunnel counts the messages of a stream.
func (s service) HandleTunnel(t *iris.Tunnel) {
	for {
		if _, err := t.Recv(context.Background()); err != nil {
			_ = t.Close()
			return
		}
		s.counter.add()
	}
}

// HandleEvent counts an event.
func (s service) HandleEvent([]byte) { s.counter.add() }

// irisService serves until stdin ends.
func irisService(port int) error {
	var c counter
	echo := func(b []byte) ([]byte, error) { return b, nil }
	services := map[string]service{tallyName: {c.answer, &c}}
	for _, name := range []string{echoName, sinkName, tallyName, castName, castName, castName, castName} {
		s, known := services[name]
		if !known {
			s = service{echo, &c}
		}
		registered, err := iris.Register(port, name, s, nil)
		if err != nil {
			return err
		}
		defer registered.Unregister()
	}
	ctx := context.Background()
	for _, subscribers := range []int{1, 4} {
		for range subscribers {
			conn, err := iris.Connect(port)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.Subscribe(ctx, fmt.Sprintf("%s%d", topicName, subscribers), service{nil, &c}, nil); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	awaitEnd()
	return nil
}

// An irisClient is a client of Iris.
type irisClient struct{ conn *iris.Connection }

func attachIris(port int) (client, error) {
	conn, err := iris.Connect(port)
	return irisClient{conn}, err
}

func (c irisClient) request(name string, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.conn.Request(ctx, name, message)
}

func (c irisClient) publish(name string, message []byte) error {
	return c.conn.Publish(context.Background(), name, message)
}

func (c irisClient) broadcast(name string, message []byte) error {
	return c.conn.Broadcast(context.Background(), name, message)
}

func (c irisClient) stream(message []byte, more func() bool) (int, error) {
	ctx := context.Background()
	t, err := c.conn.Tunnel(ctx, sinkName)
	if err != nil {
		return 0, err
	}
	sent := 0
	for ; more(); sent++ {
		if err := t.Send(ctx, message); err != nil {
			return sent, err
		}
	}
	return sent, t.Close()
}

func (c irisClient) close() { _ = c.conn.Close() }
