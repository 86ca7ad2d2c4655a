package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
)

// A devNode is a running `iris -dev`.
type devNode struct {
	cmd   *exec.Cmd
	port  int
	began time.Time
	log   string // file that its stderr goes to
}

// told is what the node has logged so far.
func (d *devNode) told() string {
	b, _ := os.ReadFile(d.log)
	return string(b)
}

// startDev starts `iris -dev` and does not wait for it.
func startDev(t *testing.T) *devNode {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	d := &devNode{port: port, log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(d.log)
	require.NoError(t, err)
	defer log.Close()
	d.cmd = exec.Command(irisBinary, "-dev", "-port", strconv.Itoa(port))
	d.cmd.Stderr = log
	d.began = time.Now()
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
	return d
}

// attach connects as soon as the node listens.
func (d *devNode) attach(t *testing.T) *iris.Connection {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := iris.Connect(d.port)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("the node never listened: %v\n%s", err, d.told())
		}
	}
}

func TestDevIsReadyAtOnce(t *testing.T) {
	var times []time.Duration
	for range 10 {
		d := startDev(t)
		_, err := iris.Register(d.port, "echo", &service{handle: echo}, nil)
		for err != nil {
			require.Less(t, time.Since(d.began), patience, "%v", err)
			_, err = iris.Register(d.port, "echo", &service{handle: echo}, nil)
		}
		_, err = d.attach(t).Request(t.Context(), "echo", []byte("x"))
		require.NoError(t, err)
		times = append(times, time.Since(d.began))
		require.NoError(t, d.cmd.Process.Kill())
	}
	slices.Sort(times)
	t.Logf("from start to the first reply, median of 10: %v (%v … %v)", times[5], times[0], times[9])
	require.Less(t, times[5], 200*time.Millisecond)
}

func TestDevHasNoSocketButTheRelayEndpoint(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc to see the sockets of a process")
	}
	d := startDev(t)
	d.attach(t)
	mine := socketsOf(t, d.cmd.Process.Pid)
	for _, table := range []string{"udp", "udp6", "raw", "raw6", "packet"} {
		for _, inode := range inodes(t, table) {
			require.NotContains(t, mine, inode, "the node has a socket of /proc/net/%s", table)
		}
	}
}

// socketsOf lists the inodes of a process's sockets.
func socketsOf(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	var found []string
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "socket:[") {
			found = append(found, strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]"))
		}
	}
	require.NotEmpty(t, found)
	return found
}

// inodes lists the inodes in one table of /proc/net.
func inodes(t *testing.T, table string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/net/" + table)
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(b)) {
		found = append(found, strings.Fields(line)...)
	}
	return found
}

func TestSecondSignalEndsADrainAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs signals")
	}
	d := startDev(t)
	conn := d.attach(t)
	started := make(chan struct{})
	block := make(chan struct{})
	defer close(block)
	s, err := iris.Register(d.port, "stuck", &service{handle: func([]byte) ([]byte, error) {
		close(started)
		<-block
		return nil, nil
	}}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Abort() })
	go func() { _, _ = conn.Request(t.Context(), "stuck", nil) }()
	<-started
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return strings.Contains(d.told(), "draining") }, patience, 10*time.Millisecond)
	began := time.Now()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	_ = d.cmd.Wait()
	require.Less(t, time.Since(began), 5*time.Second)
}
