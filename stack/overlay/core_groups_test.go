package overlay

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeeperThatIsLeftAndChosenAgainShowsAllAnew(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(6, demo)
		for _, n := range nodes {
			n.announce(demoGroup, 1)
		}
		s.run(time.Second)
		s.stable = false
		n, keeper := nodes[0], nodes[1]
		g := n.core.groups[demo]
		for range 5 {
			n.step(do(func(c *core) { c.settleOn(g, keeper.id) }))
			s.run(20 * time.Millisecond)
			for _, o := range nodes[1:] {
				o.announce(demoGroup, uint32(2+s.rng.IntN(5)))
			}
			n.step(do(func(c *core) { c.settleOn(g, c.self) }))
			s.run(time.Duration(s.rng.Int64N(int64(4 * time.Millisecond))))
			n.step(do(func(c *core) { c.settleOn(g, keeper.id) }))
			s.run(50 * time.Millisecond)
			require.True(s.t, s.agreed(nodes))
			n.step(do(func(c *core) { // it has not even been told that it was left
				c.settleOn(g, c.self)
				c.takeLeave(g, keeper.id)
				c.settleOn(g, keeper.id)
			}))
			s.run(20 * time.Millisecond)
			nodes[2].announce(demoGroup, uint32(2+s.rng.IntN(5)))
			s.run(20 * time.Millisecond)
			require.True(s.t, s.agreed(nodes))
			n.step(do(func(c *core) { c.settleOn(g, c.self) }))
			s.run(20 * time.Millisecond)
		}
	})
}

func (g *group) attached() peerSet {
	if g.kept == nil {
		return nil
	}
	return g.kept.attached
}

// Who lost its keeper does not wait for it to answer because others tell of it still.
func TestNodesThatLostTheirKeeperFindAnotherAtOnce(t *testing.T) {
	simulate(t, 20, func(s *sim) {
		nodes := s.mesh(16, demo)
		for _, n := range nodes {
			n.announce(demoGroup, 1)
		}
		s.run(3 * time.Second)
		dead := slices.MaxFunc(nodes, func(a, b *simNode) int {
			return len(a.core.groups[demo].attached()) - len(b.core.groups[demo].attached())
		})
		dead.kill()
		s.until(time.Second, "all have another keeper", func() bool {
			for _, n := range s.alive() {
				if k := n.core.groups[demo].keeper; s.byID[k] == nil || !s.byID[k].alive {
					return false
				}
			}
			return true
		})
	})
}
