package overlay

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/project-iris/iris/stack/link/linktest"
	"github.com/stretchr/testify/require"
)

// A crowd is many nodes over real links, in virtual time, that all watch a group and are in it.
type crowd struct {
	t       *testing.T
	network *linktest.Network
	nodes   []*running // nil: killed
}

func runCrowd(t *testing.T, count int) *crowd {
	if raceDetector {
		count = min(count, 20)
	}
	network, nodes := runLinked(t, count)
	c := &crowd{t: t, network: network, nodes: nodes}
	began := time.Now()
	for _, n := range nodes {
		n.Watch(demoGroup)
		n.Announce(demoGroup, 1)
	}
	c.until(4*time.Second, c.agree)
	links := 0
	for _, n := range nodes {
		links = max(links, len(n.Peers()))
	}
	t.Logf("%d nodes agree after %v, with %d links at most", count, time.Since(began), links)
	return c
}

// agree tells whether all views show all others that live, and nobody else.
func (c *crowd) agree() bool {
	live := 0
	for _, n := range c.nodes {
		if n != nil {
			live++
		}
	}
	return !slices.ContainsFunc(c.nodes, func(n *running) bool {
		if n == nil {
			return false
		}
		hosts, _ := n.count(demo)
		return hosts != live-1
	})
}

// until waits for something, and tells how long it took.
func (c *crowd) until(limit time.Duration, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) >= limit {
			c.t.Fatalf("not after %v: views show %v", limit, c.shows())
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

// shows are how many others the views show.
func (c *crowd) shows() (hosts []int) {
	for _, n := range c.nodes {
		if n != nil {
			h, _ := n.count(demo)
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// changes counts how often views have changed.
func (c *crowd) changes() (total int) {
	for _, n := range c.nodes {
		n.mu.Lock()
		total += n.viewed[demo]
		n.mu.Unlock()
	}
	return total
}

// cut keeps two nodes from each other.
func (c *crowd) cut(from, to int) { c.network.Paths.Cut(c.network.Addr(from), c.network.Addr(to)) }

func TestOverLinksADeadNodeIsGoneFromAllViewsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 64)
		time.Sleep(5 * time.Second)
		var took []time.Duration
		kills := len(c.nodes) / 8
		for i := range kills {
			time.Sleep(8*time.Second + time.Duration(i)*7*time.Millisecond) // in each phase of the pings, when all is calm
			for j := range c.nodes {                                        // it dies without a word
				if j != i {
					c.cut(i, j)
				}
			}
			c.nodes[i] = nil
			took = append(took, c.until(3*time.Second, c.agree))
		}
		t.Logf("%d kills: out of all views after p50 %v, p99 %v, at most %v", kills, quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
		require.Less(t, quantile(took, 1), time.Second)
	})
}

// A tenth of the nodes hear and say nothing for 400 ms, again and again.
func TestOverLinksShortStallsRaiseNoAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 64)
		time.Sleep(5 * time.Second)
		before := c.changes()
		var mu sync.Mutex // guards stalled
		stalled := map[netip.AddrPort]bool{}
		c.network.Paths.Watch(func(from, to netip.AddrPort, _ []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			return !stalled[from] && !stalled[to]
		})
		for round := range 6 {
			mu.Lock()
			for i := round; i < len(c.nodes); i += 10 {
				stalled[c.network.Addr(i)] = true
			}
			mu.Unlock()
			time.Sleep(400 * time.Millisecond)
			mu.Lock()
			clear(stalled)
			mu.Unlock()
			time.Sleep(1500 * time.Millisecond)
		}
		require.True(t, c.agree())
		require.Equal(t, before, c.changes(), "nobody was taken for dead")
	})
}

func TestOverLinksAPartitionHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := runCrowd(t, 40)
		time.Sleep(2 * time.Second)
		side := len(c.nodes) / 3
		for i := range side {
			for j := side; j < len(c.nodes); j++ {
				c.cut(i, j)
			}
		}
		took := c.until(40*time.Second, func() bool {
			hosts := c.shows()
			slices.Sort(hosts)
			return hosts[0] == side-1 && hosts[side-1] == side-1 && hosts[side] == len(c.nodes)-side-1 && hosts[len(hosts)-1] == hosts[side]
		})
		t.Log("each side serves what it has after", took)
		time.Sleep(10 * time.Second)
		c.network.Paths.Heal()
		t.Log("healed after", c.until(30*time.Second, c.agree)) // discovery would help
	})
}
