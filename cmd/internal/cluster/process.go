package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

// pollInterval is how often a node is asked while something is awaited.
const pollInterval = 10 * time.Millisecond

// A Node is one iris process at a time.
type Node struct {
	Bind netip.Prefix
	Port int
	Log  string // file that its stderr goes to

	Started time.Time // when the process was started

	command []string
	env     []string
	socket  string // path of its Unix socket
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process has ended
}

// Add starts one more node, at host number host of the subnet, and does not
// wait for it.
func (c *Cluster) Add(host int) (*Node, error) {
	addr := c.cfg.Subnet.Addr()
	for range host {
		addr = addr.Next()
	}
	bind := netip.PrefixFrom(addr, c.cfg.Subnet.Bits())
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &Node{
		Bind:   bind,
		Port:   port,
		Log:    filepath.Join(c.dir, fmt.Sprintf("node-%d-%d.log", host, port)),
		env:    append(os.Environ(), c.Env()...),
		socket: filepath.Join(c.dir, strconv.Itoa(port)+".sock"),
	}
	n.command = slices.Concat(c.cfg.Prefix, []string{c.cfg.Binary}, c.cfg.Args,
		[]string{"-net", c.cfg.Network, "-rsa", c.cfg.Key, "-port", strconv.Itoa(port), "-bind", bind.String()})
	if err := n.Start(); err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, n)
	return n, nil
}

// Start starts the process, again if one has ended, and does not wait for it to
// be ready.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(n.command[0], n.command[1:]...)
	cmd.Stderr = log
	cmd.Env = n.env
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cluster: start %s: %w", n.command[0], err)
	}
	exited := make(chan struct{})
	n.cmd, n.exited, n.Started = cmd, exited, time.Now()
	go func() { // ends with the process; Kill and Wait wait for it
		_ = cmd.Wait() // how it ended is in ProcessState
		close(exited)
	}()
	return nil
}

// lastPort is where the search for the next one goes on, so that a process gets no port twice.
var lastPort = func() *atomic.Uint32 {
	var p atomic.Uint32
	p.Store(rand.Uint32())
	return &p
}()

// FreePort finds a TCP port that nobody listens on, below the range from which
// the system gives ports to outgoing connections.
func FreePort() (int, error) {
	const first, count, tries = 20_000, 12_000, 100
	var err error
	for range tries {
		var l net.Listener
		if l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", first+lastPort.Add(1)%count)); err == nil {
			return l.Addr().(*net.TCPAddr).Port, l.Close()
		}
	}
	return 0, fmt.Errorf("cluster: no free port: %w", err)
}

// Signal sends a signal to the process.
func (n *Node) Signal(s os.Signal) error { return n.cmd.Process.Signal(s) }

// PID is the process's id.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Dial attaches to the node over its Unix socket, which is not where this
// process would look for it.
func (n *Node) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", n.socket)
}

// Kill ends the process at once, if it still runs, and waits for its end.
func (n *Node) Kill() error {
	err := n.cmd.Process.Kill()
	<-n.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Wait waits for the process to end by itself and returns its exit code.
func (n *Node) Wait(ctx context.Context) (int, error) {
	select {
	case <-n.exited:
		return n.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Status asks the node what it knows.
func (n *Node) Status(ctx context.Context) (node.Status, error) {
	var s node.Status
	conn, err := iris.Connect(n.Port, iris.WithDialer(n.Dial))
	if err != nil {
		return s, err
	}
	defer conn.Close()
	answer, err := conn.Request(ctx, node.SelfCluster, []byte("status"))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(answer, &s)
}

// AwaitStatus asks the node until its status satisfies is, and returns the
// last one it got.
func (n *Node) AwaitStatus(ctx context.Context, timeout time.Duration, is func(node.Status) bool) (node.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var s node.Status
	var err error
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		if s, err = n.Status(ctx); err == nil && is(s) {
			return s, nil
		}
		select {
		case <-n.exited:
			log, _ := os.ReadFile(n.Log)
			return s, fmt.Errorf("cluster: the node at %s has ended: %s", n.Bind, log)
		case <-ctx.Done():
			return s, errors.Join(ctx.Err(), err)
		case <-poll.C:
		}
	}
}
