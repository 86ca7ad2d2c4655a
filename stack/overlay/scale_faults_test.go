package overlay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Half of the network is apart for five minutes. Nothing but the overlay itself, which
// tries lost peers again, brings the halves together; discovery would help.
func TestPartitionOfHalf(t *testing.T) {
	nodes, seeds := 40, 1
	if *nodesFlag > 0 {
		nodes = *nodesFlag
	}
	simulate(t, seeds, func(s *sim) {
		f := newFleet(s.t, uint64(s.rng.Int64()))
		f.grow(nodes)
		f.run(20 * time.Second)
		side := map[*simNode]bool{}
		for _, i := range f.rng.Perm(nodes)[:nodes/2] {
			side[f.nodes[i]] = true
		}
		f.cut = func(a, b *simNode) bool { return side[a] != side[b] }
		f.run(5 * time.Minute)
		f.heal()
		healed := f.now
		for f.wrongViews() > 0 && f.now.Sub(healed) < 2*time.Minute {
			f.run(200 * time.Millisecond)
		}
		s.t.Logf("%d nodes: all views are right %v after healing", nodes, f.now.Sub(healed))
		require.Less(s.t, f.now.Sub(healed), 10*time.Second)
	})
}

// A quarter of the nodes stalls for anything up to 8 s, one by one: who stalls for longer than
// the limit is given up, by right; nobody else is.
func TestStallsOfAQuarter(t *testing.T) {
	nodes := 128
	simulate(t, 1, func(s *sim) {
		f := newFleet(s.t, uint64(s.rng.Int64()))
		f.grow(nodes)
		f.run(20 * time.Second)
		f.alarms = nil
		ill := map[*simNode]bool{}
		for _, i := range f.rng.Perm(nodes)[:nodes/4] {
			n := f.nodes[i]
			ill[n] = true
			f.post(f.now.Add(time.Duration(f.rng.Int64N(int64(5*time.Second)))), nil, func() {
				n.stall(100*time.Millisecond + time.Duration(f.rng.Int64N(int64(7900*time.Millisecond))))
			})
		}
		f.run(15*time.Second + hideFor) // a member that could not be reached is not shown for a while
		healthy, byIll := 0, 0
		for _, a := range f.alarms {
			if !ill[a.who] {
				healthy++
				if ill[a.by] {
					byIll++
				}
			}
		}
		s.t.Logf("%d alarms, of which %d at healthy nodes, %d of these by stalled ones; %d views are wrong",
			len(f.alarms), healthy, byIll, f.wrongViews())
		require.Zero(s.t, healthy)
		require.Zero(s.t, f.wrongViews())
	})
}
