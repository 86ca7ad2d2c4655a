package e2e

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
)

// counted registers one member of a cluster on each of the nodes, which answers after
// the time that is its own, and counts.
func counted(t *testing.T, name string, takes ...time.Duration) (*iris.Connection, []atomic.Int64) {
	t.Helper()
	c := startCluster(t, len(takes)+1)
	counts := make([]atomic.Int64, len(takes))
	for i, took := range takes {
		serve(t, c.Nodes[i], name, func(request []byte) ([]byte, error) {
			counts[i].Add(1)
			if took > 0 {
				<-time.After(took)
			}
			return request, nil
		})
	}
	return connect(t, c.Nodes[len(takes)]), counts
}

// ask sends requests, a number of them at once, and wants every one answered.
func ask(t *testing.T, conn *iris.Connection, name string, requests, atOnce int) {
	t.Helper()
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for range requests / atOnce {
				if _, err := conn.Request(t.Context(), name, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestLesson16EqualMembersGetEqualShares(t *testing.T) {
	const requests, members = 100_000, 4
	conn, counts := counted(t, "fair", make([]time.Duration, members)...)
	ask(t, conn, "fair", requests, 32)
	for i := range counts {
		share := float64(counts[i].Load()) * members / requests
		t.Logf("member %d got %.3f of its share", i, share)
		require.InDelta(t, 1, share, 0.05)
	}
}

func TestLesson16SlowMemberGetsProportionallyFewer(t *testing.T) {
	const requests = 6_000
	const fast = 10 * time.Millisecond // much longer than the way there, which counts too
	conn, counts := counted(t, "uneven", fast, fast, fast, 10*fast)
	ask(t, conn, "uneven", requests, 32)
	slow, others := counts[3].Load(), (requests-counts[3].Load())/3
	t.Logf("the slow member got %d, each of the others %d on average: 1 to %.1f", slow, others, float64(others)/float64(slow))
	require.Positive(t, slow)
	require.Greater(t, others, 4*slow, "a tenth of the speed, not more than a quarter of the requests, however busy the machine is")
	for i := range 3 {
		require.InDelta(t, others, counts[i].Load(), float64(others)*0.15)
	}
}
