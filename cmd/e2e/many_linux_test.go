package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

var manyFlag = flag.Int("many", 12, "how many nodes TestManyNodesServeEachOther runs, 64 to see that not all of them have links to each other")

func TestManyNodesServeEachOther(t *testing.T) {
	count := *manyFlag
	c := startWith(t, cluster.Config{Bits: 24})
	for i := range count {
		_, err := c.Add(1 + i)
		require.NoError(t, err)
	}
	last := c.Nodes[count-1].Started
	t.Logf("%d processes started within %v", count, last.Sub(c.Nodes[0].Started))

	each(c, func(i int, n *cluster.Node) {
		eventually(t, func() error {
			s, err := iris.Register(n.Port, fmt.Sprint("only-", i), &service{handle: echo}, nil)
			if err == nil {
				t.Cleanup(func() { _ = s.Unregister() })
			}
			return err
		})
		eventually(t, func() error {
			s, err := iris.Register(n.Port, "all", &service{handle: echo}, nil)
			if err == nil {
				t.Cleanup(func() { _ = s.Unregister() })
			}
			return err
		})
	})
	t.Log("all are registered", time.Since(last), "after the last start")
	each(c, func(i int, _ *cluster.Node) { // the one before it asks: no relay of its own
		conn, err := iris.Connect(c.Nodes[(i+count-1)%count].Port)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		eventually(t, func() error {
			_, err := conn.Request(within(time.Second), fmt.Sprint("only-", i), []byte("there?"))
			return err
		})
	})
	served := time.Since(last)
	each(c, func(_ int, n *cluster.Node) {
		if s, err := n.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return membersOf(s, "all") == count }); err != nil {
			t.Errorf("%s shows %d members: %v", n.Bind, membersOf(s, "all"), err)
		}
	})
	took := time.Since(last)
	t.Logf("every node is served %v after the last start, and all views agree after %v", served, took)
	require.Less(t, served, 4*time.Second)

	const idle = 5 * time.Second
	time.Sleep(2 * time.Second)
	before := busyOf(t, c)
	time.Sleep(idle)
	var shares []float64 // of a core, in percent
	for i, after := range busyOf(t, c) {
		shares = append(shares, 100*float64(after-before[i])/float64(idle))
	}
	memory, peers := memoryOf(t, c), peersOf(t, c)
	slices.Sort(shares)
	slices.Sort(memory)
	slices.Sort(peers)
	middle := count / 2
	t.Logf("idle: %.1f %% of a core (at most %.1f), %d MB resident (at most %d), %d links (at most %d)",
		shares[middle], shares[count-1], memory[middle]>>10, memory[count-1]>>10, peers[middle], peers[count-1])
}

// each does something with all nodes at once.
func each(c *cluster.Cluster, do func(i int, n *cluster.Node)) {
	var wg sync.WaitGroup
	for i, n := range c.Nodes {
		wg.Go(func() { do(i, n) })
	}
	wg.Wait()
}

// eventually tries again until it works.
func eventually(t *testing.T, try func() error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Error(err)
			return
		case <-again.C:
		}
	}
}

func membersOf(s node.Status, name string) (members int) {
	for _, c := range s.Clusters {
		if c.Name == name {
			for _, m := range c.Members {
				members += m.Count
			}
		}
	}
	return members
}

func peersOf(t *testing.T, c *cluster.Cluster) (links []int) {
	for _, n := range c.Nodes {
		s, err := n.Status(t.Context())
		require.NoError(t, err)
		links = append(links, len(s.Peers))
	}
	return links
}

// busyOf is how much processor time each node has used; proc(5) has it in hundredths of a second.
func busyOf(t *testing.T, c *cluster.Cluster) (busy []time.Duration) {
	for _, n := range c.Nodes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
		require.NoError(t, err)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		ticks := 0
		for _, f := range fields[11:13] { // utime, stime
			v, err := strconv.Atoi(string(f))
			require.NoError(t, err)
			ticks += v
		}
		busy = append(busy, time.Duration(ticks)*10*time.Millisecond)
	}
	return busy
}

// memoryOf is how much memory each node has, in KiB.
func memoryOf(t *testing.T, c *cluster.Cluster) (resident []int) {
	for _, n := range c.Nodes {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
		require.NoError(t, err)
		_, rest, found := bytes.Cut(status, []byte("VmRSS:"))
		require.True(t, found)
		v, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
		require.NoError(t, err)
		resident = append(resident, v)
	}
	return resident
}
