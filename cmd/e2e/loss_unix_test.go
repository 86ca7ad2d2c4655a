//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/load"
	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

// needLab is a lab that can spoil its network, or the end of the test.
func needLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	if l.namespace == "" {
		t.Skip("needs root, ip and iptables")
	}
	return l
}

// lose drops a share of all datagrams between nodes, from now on.
func (l *lab) lose(t *testing.T, share float64) {
	t.Helper()
	l.sh(t, append(l.prefix, "iptables", "-A", "INPUT", "-p", "udp", "-m", "statistic", "--mode", "random",
		"--probability", fmt.Sprint(share), "-j", "DROP")...)
}

func (l *lab) mtu(t *testing.T, bytes int) {
	t.Helper()
	l.sh(t, "ip", "-n", l.namespace, "link", "set", "lo", "mtu", fmt.Sprint(bytes))
}

// heal ends what lose and cut have begun.
func (l *lab) heal(t *testing.T) {
	t.Helper()
	l.sh(t, append(l.prefix, "iptables", "-F", "INPUT")...)
}

// start runs n nodes in the lab that see each other, until the test ends.
func (l *lab) start(t *testing.T, n int) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Config{Nodes: n, Binary: irisBinary, Prefix: l.prefix})
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

// attachService and attachClient attach through the node's Unix socket, which
// leads into a lab.
func attachService(t *testing.T, n *cluster.Node, name string, handle func([]byte) ([]byte, error)) {
	t.Helper()
	s, err := iris.Register(n.Port, name, &service{handle: handle}, nil, iris.WithDialer(n.Dial), iris.WithLogger(quiet))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Unregister() })
}

func attachClient(t *testing.T, n *cluster.Node) *iris.Connection {
	t.Helper()
	conn, err := iris.Connect(n.Port, iris.WithDialer(n.Dial), iris.WithLogger(quiet))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A ledger is what became of numbered requests. It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex // guards the fields below
	next     uint64
	executed map[uint64]int
	answered int
	failed   map[string]int
	wrong    []string
}

func newLedger() *ledger { return &ledger{executed: map[uint64]int{}, failed: map[string]int{}} }

// handle serves numbered requests: the answer is the request itself.
func (l *ledger) handle(request []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.executed[binary.BigEndian.Uint64(request)]++
	return request, nil
}

// request sends a numbered request of about so many bytes, notes how it ends, and
// tells whether it was answered.
func (l *ledger) request(ctx context.Context, conn *iris.Connection, size int, deadline time.Duration) bool {
	l.mu.Lock()
	l.next++
	request := append(binary.BigEndian.AppendUint64(nil, l.next), bytes.Repeat([]byte{byte(l.next)}, size)...)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	reply, err := conn.Request(ctx, "work", request)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && bytes.Equal(reply, request):
		l.answered++
	case err == nil:
		l.wrong = append(l.wrong, fmt.Sprintf("%d bytes for %d", len(reply), len(request)))
	default:
		l.fail(err)
	}
	return err == nil
}

// fail notes an outcome. mu is held.
func (l *ledger) fail(err error) {
	for _, typed := range []error{iris.ErrLost, iris.ErrTimeout, iris.ErrNoService, iris.ErrOverloaded} {
		if errors.Is(err, typed) {
			l.failed[typed.Error()]++
			return
		}
	}
	l.wrong = append(l.wrong, "untyped outcome: "+err.Error())
}

// check wants every request to have ended once, typed, and executed once at most.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d requests, answered %d, failed %v", l.next, l.answered, l.failed)
	require.Empty(t, l.wrong)
	ended := l.answered
	for _, n := range l.failed {
		ended += n
	}
	require.EqualValues(t, l.next, ended)
	for number, times := range l.executed {
		require.Equal(t, 1, times, "request %d was executed", number)
	}
}

// send sends count requests at so many a second, each with a deadline, and waits
// for their outcomes.
func (l *ledger) send(t *testing.T, conn *iris.Connection, count, rate, size int, deadline time.Duration) {
	t.Helper()
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range count {
		<-ticker.C
		wg.Go(func() { l.request(t.Context(), conn, size, deadline) })
	}
}

func TestThirtyPercentLossGivesNoWrongResult(t *testing.T) {
	l := needLab(t)
	c := l.start(t, 2)
	book := newLedger()
	attachService(t, c.Nodes[0], "work", book.handle)
	conn := attachClient(t, c.Nodes[1])
	l.lose(t, 0.3)
	book.send(t, conn, 400, 100, 2000, time.Minute)
	book.check(t)
	require.EqualValues(t, 400, book.answered, "it is slow, not dead")
	l.heal(t)
	require.NoError(t, c.AwaitPeers(t.Context(), patience))
}

// throughput is how many requests of 1 KiB a second are answered, 64 at once.
func throughput(t *testing.T, conn *iris.Connection) load.Summary {
	t.Helper()
	meter := load.NewMeter()
	request := bytes.Repeat([]byte{7}, 1024)
	load.Run(t.Context(), load.Config{InFlight: 64, Duration: 2 * time.Second}, meter, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		reply, err := conn.Request(ctx, "work", request)
		if err == nil && !bytes.Equal(reply, request) {
			t.Error("a wrong reply")
		}
		return err
	})
	return meter.Summary()
}

func TestLossAndSmallPacketsMakeItSlowerOnly(t *testing.T) {
	l := needLab(t)
	c := l.start(t, 2)
	attachService(t, c.Nodes[0], "work", echo)
	conn := attachClient(t, c.Nodes[1])
	without := throughput(t, conn)
	l.lose(t, 0.02)
	with := throughput(t, conn)
	l.heal(t)
	t.Logf("without loss: %d requests/s, %v", without.Count/2, without)
	t.Logf("2 %% loss:     %d requests/s, %v", with.Count/2, with)
	require.Empty(t, with.Errors)
	require.Positive(t, with.Count)
}

func TestPacketsOf1280BytesAreEnough(t *testing.T) {
	l := needLab(t)
	l.mtu(t, 1280)
	c := l.start(t, 2)
	book := newLedger()
	attachService(t, c.Nodes[0], "work", book.handle)
	conn := attachClient(t, c.Nodes[1])
	book.send(t, conn, 50, 100, 100_000, 5*time.Second)
	book.check(t)
	require.EqualValues(t, book.next, book.answered)
	s := throughput(t, conn)
	t.Logf("MTU 1280: %d requests/s, %v", s.Count/2, s)
}

func TestPathThatShrinksTo1280BytesIsSurvived(t *testing.T) {
	l := needLab(t)
	c := l.start(t, 2)
	book := newLedger()
	attachService(t, c.Nodes[0], "work", book.handle)
	conn := attachClient(t, c.Nodes[1])
	book.send(t, conn, 50, 100, 100_000, 5*time.Second) // packets have grown to what fits
	l.mtu(t, 1280)
	began := time.Now()
	for answered := 0; answered < 20; {
		require.Less(t, time.Since(began), 20*time.Second)
		if book.request(t.Context(), conn, 100_000, 2*time.Second) {
			answered++
		}
	}
	t.Logf("20 requests of 100 kB were answered %v after the path had shrunk", time.Since(began))
	book.check(t)
	_, err := c.Nodes[0].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 1 })
	require.NoError(t, err)
}
