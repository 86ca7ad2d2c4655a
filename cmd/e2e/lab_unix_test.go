//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
)

// A lab is where nodes run that faults are injected into: a network namespace of
// the test's own where it may make one, so that nodes can be cut off from each
// other without touching the network of the host.
type lab struct {
	namespace string   // empty: none, and nobody is cut off
	prefix    []string // of commands that run in it
}

func newLab(t *testing.T) *lab {
	if os.Geteuid() != 0 {
		t.Log("not root: no partitions")
		return &lab{}
	}
	for _, tool := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no %s: no partitions", tool)
			return &lab{}
		}
	}
	l := &lab{namespace: fmt.Sprintf("iris-%d", os.Getpid())}
	l.prefix = []string{"ip", "netns", "exec", l.namespace}
	l.sh(t, "ip", "netns", "add", l.namespace)
	t.Cleanup(func() { l.sh(t, "ip", "netns", "del", l.namespace) })
	l.sh(t, "ip", "-n", l.namespace, "link", "set", "lo", "up")
	return l
}

func (l *lab) sh(t *testing.T, command ...string) {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	require.NoError(t, err, "%v: %s", command, out)
}

// faults injects a fault every few seconds until ctx is done, and heals the last
// one. Faults do not overlap.
func (l *lab) faults(ctx context.Context, t *testing.T, nodes []*cluster.Node, rng *rand.Rand) {
	kinds := []func(*testing.T, *cluster.Node, *rand.Rand){kill, freeze, terminate}
	if l.namespace != "" {
		kinds = append(kinds, func(t *testing.T, _ *cluster.Node, rng *rand.Rand) { l.partition(t, nodes, rng) })
	}
	ticker := time.NewTicker(faultEvery)
	defer ticker.Stop()
	for i := rng.IntN(len(kinds)); ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			kinds[i%len(kinds)](t, nodes[rng.IntN(len(nodes))], rng)
		}
	}
}

// pause waits up to most.
func pause(rng *rand.Rand, least, most time.Duration) time.Duration {
	d := least + time.Duration(rng.Int64N(int64(most-least)))
	<-time.After(d)
	return d
}

func kill(t *testing.T, n *cluster.Node, rng *rand.Rand) {
	require.NoError(t, n.Kill())
	down := pause(rng, 100*time.Millisecond, 2*time.Second)
	require.NoError(t, n.Start())
	t.Logf("%s was killed and started again after %v", n.Bind, down)
}

func freeze(t *testing.T, n *cluster.Node, rng *rand.Rand) {
	require.NoError(t, n.Signal(syscall.SIGSTOP))
	stopped := pause(rng, 100*time.Millisecond, 8*time.Second)
	require.NoError(t, n.Signal(syscall.SIGCONT))
	t.Logf("%s was stopped for %v", n.Bind, stopped)
}

func terminate(t *testing.T, n *cluster.Node, rng *rand.Rand) {
	began := time.Now()
	require.NoError(t, n.Signal(syscall.SIGTERM))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := n.Wait(ctx)
	require.NoError(t, err)
	t.Logf("%s was told to end and took %v, exit code %d", n.Bind, time.Since(began), code)
	pause(rng, 0, time.Second)
	require.NoError(t, n.Start())
}

// partition cuts some nodes off from the others, in both directions or in one.
func (l *lab) partition(t *testing.T, nodes []*cluster.Node, rng *rand.Rand) {
	cut := 1 + rng.IntN(len(nodes)/2)
	oneWay := rng.IntN(3) == 0
	order := rng.Perm(len(nodes))
	block := func(from, to *cluster.Node) {
		l.sh(t, append(l.prefix, "iptables", "-A", "INPUT", "-s", from.Bind.Addr().String(), "-d", to.Bind.Addr().String(), "-j", "DROP")...)
	}
	for _, a := range order[:cut] {
		for _, b := range order[cut:] {
			block(nodes[a], nodes[b])
			if !oneWay {
				block(nodes[b], nodes[a])
			}
		}
	}
	lasted := pause(rng, time.Second, 6*time.Second)
	l.sh(t, append(l.prefix, "iptables", "-F", "INPUT")...)
	t.Logf("%d nodes were cut off for %v, in one direction only: %v", cut, lasted, oneWay)
}
