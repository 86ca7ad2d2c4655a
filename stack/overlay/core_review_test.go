package overlay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Its stance is told to nobody whose business it would be to notice.
func TestDeathOfANodeThatKeepsItselfIsNoticedSoon(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		first := s.start(demo)
		for range 39 {
			s.start(demo).offer(first)
		}
		s.run(10 * time.Second)
		for _, n := range s.nodes {
			n.announce(demoGroup, 1)
		}
		s.run(50 * time.Second)
		killed := 0
		for _, n := range s.nodes {
			if n.core.groups[demo].keeper != n.id || killed == 3 {
				continue
			}
			killed++
			n.kill()
			s.t.Log(s.until(2*time.Second, "all views are without it", func() bool { return s.agreed(s.alive()) }))
			s.run(12 * time.Second)
		}
		require.Equal(s.t, 3, killed)
	})
}

func TestKeeperThatIsLostWhileItIsAskedIsReplacedByOneOfTheClosest(t *testing.T) {
	simulate(t, 3, func(s *sim) {
		first := s.start(demo)
		for range 39 {
			s.start(demo).offer(first)
		}
		s.run(90 * time.Second) // a keeper is only asked by now
		asked := 0
		for _, n := range s.nodes {
			g := n.core.groups[demo]
			if _, self := n.core.closestTo(demo); self || g.pause < checkAfter || g.keeper == n.id {
				continue
			}
			asked++
			s.byID[g.keeper].kill()
			n.step(do(func(c *core) { c.check(g) }))
			lost := g.keeper
			for end := s.now.Add(5 * time.Second); g.keeper == lost || g.seeking; s.run(100 * time.Microsecond) {
				require.True(s.t, s.now.Before(end), "another keeper")
				require.NotEqual(s.t, n.id, g.keeper, "not even for a moment")
			}
			require.NotEqual(s.t, n.id, g.keeper)
			break
		}
		require.Equal(s.t, 1, asked)
	})
}
