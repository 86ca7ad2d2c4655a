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
