//go:build unix

package e2e

import (
	"context"
	"flag"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

var partitions = flag.Int("partitions", 0, "how many partitions of a minute TestHealedPartitionIsOneNetworkAgain makes; 0: three of five seconds")

// rejoin is how soon a network is one again after it was healed.
const rejoin = 10 * time.Second

// cut loses everything that nodes of one side send to the other; one way, or both.
func (l *lab) cut(t *testing.T, from, to []*cluster.Node, oneWay bool) {
	t.Helper()
	for _, a := range from {
		for _, b := range to {
			l.sh(t, append(l.prefix, "iptables", "-A", "INPUT", "-s", a.Bind.Addr().String(), "-d", b.Bind.Addr().String(), "-j", "DROP")...)
		}
	}
	if !oneWay {
		l.cut(t, to, from, true)
	}
}

// TestHealedPartitionIsOneNetworkAgain cuts six nodes in two halves. The long way:
//
//	go test ./cmd/e2e -run TestHealedPartitionIsOneNetworkAgain -v -timeout 1h -args -partitions 20
func TestHealedPartitionIsOneNetworkAgain(t *testing.T) {
	l := needLab(t)
	c := l.start(t, 6)
	book := newLedger()
	for _, n := range c.Nodes {
		attachService(t, n, "work", book.handle)
	}
	awaitMembers(t, c.Nodes, 6, patience)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var answered [2]atomic.Int64 // to clients of each half
	for i, n := range c.Nodes {
		conn := attachClient(t, n)
		wg.Go(func() {
			for ticker := time.Tick(50 * time.Millisecond); ctx.Err() == nil; <-ticker {
				wg.Go(func() {
					if book.request(t.Context(), conn, 100, 2*time.Second) {
						answered[i/3].Add(1)
					}
				})
			}
		})
	}
	count, lasts := 3, 5*time.Second
	if *partitions > 0 {
		count, lasts = *partitions, time.Minute
	}
	for i := range count {
		oneWay := i%2 == 1
		began := time.Now()
		l.cut(t, c.Nodes[:3], c.Nodes[3:], oneWay)
		awaitMembers(t, c.Nodes, 3, lasts)
		apart := time.Since(began)
		answered[0].Store(0)
		answered[1].Store(0)
		<-time.After(lasts - apart)
		served := [2]int64{answered[0].Load(), answered[1].Load()}
		require.Positive(t, min(served[0], served[1]), "each side serves what it has")
		l.heal(t)
		healed := time.Now()
		awaitMembers(t, c.Nodes, 6, rejoin)
		t.Logf("one way %v: two networks after %v, %d requests answered meanwhile, one again %v after it was healed", oneWay, apart, served, time.Since(healed))
		require.Less(t, time.Since(healed), rejoin)
	}
	stop()
	wg.Wait()
	book.check(t)
}

// awaitMembers waits until each node counts so many members of work.
func awaitMembers(t *testing.T, nodes []*cluster.Node, count int, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, n := range nodes {
		s, err := n.AwaitStatus(ctx, within, func(s node.Status) bool { return s.Members("work") == count })
		require.NoError(t, err, "%s counts %d members, of %d", n.Bind, s.Members("work"), count)
	}
}

func TestStoppedNodeGivesTypedOutcomesAndIsBack(t *testing.T) {
	for _, stopped := range []time.Duration{100 * time.Millisecond, 3 * time.Second} {
		t.Run(stopped.String(), func(t *testing.T) {
			c := startCluster(t, 3)
			book := newLedger()
			attachService(t, c.Nodes[0], "work", book.handle)
			attachService(t, c.Nodes[1], "work", book.handle)
			conn := attachClient(t, c.Nodes[2])
			awaitMembers(t, c.Nodes[:2], 2, patience)
			var wg sync.WaitGroup
			wg.Go(func() { book.send(t, conn, int(100*(stopped+time.Second)/time.Second), 100, 100, 5*time.Second) })
			require.NoError(t, c.Nodes[0].Signal(syscall.SIGSTOP))
			<-time.After(stopped)
			require.NoError(t, c.Nodes[0].Signal(syscall.SIGCONT))
			continued := time.Now()
			wg.Wait()
			require.NoError(t, c.AwaitPeers(t.Context(), rejoin))
			t.Logf("all see each other %v after it went on", time.Since(continued))
			book.check(t)
			require.Positive(t, book.answered)
		})
	}
}
