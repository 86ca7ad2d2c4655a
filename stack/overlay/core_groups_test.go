package overlay

import (
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
			n.step(do(func(c *core) { c.settleOn(g, c.self) }))
			s.run(20 * time.Millisecond)
		}
	})
}
