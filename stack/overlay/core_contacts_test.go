package overlay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// idOf makes an id that compares like n.
func idOf(n uint64) (id link.ID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func addrOf(host byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, host}), 4000)
}

var epoch = time.Unix(1_000_000, 0)

// effectsOf picks the effects of one type.
func effectsOf[E effect](effects []effect) []E {
	var picked []E
	for _, e := range effects {
		if e, ok := e.(E); ok {
			picked = append(picked, e)
		}
	}
	return picked
}

func TestLowerIDDialsAtOnceAndHigherLater(t *testing.T) {
	c := newCore(idOf(5))
	require.Equal(t, []effect{dial{idOf(9), addrOf(9)}}, c.step(epoch, offered{idOf(9), addrOf(9)}))
	require.Empty(t, c.step(epoch, offered{idOf(1), addrOf(1)}))
	require.Empty(t, c.step(epoch.Add(headStart-1), tick{}))
	require.Equal(t, []effect{dial{idOf(1), addrOf(1)}}, c.step(epoch.Add(headStart), tick{}))
}

func TestFailedDialsBackOffOverAllAddresses(t *testing.T) {
	c := newCore(idOf(1))
	now := epoch
	c.step(now, offered{idOf(2), addrOf(1)})
	c.step(now, offered{idOf(2), addrOf(2)})
	tried := map[netip.AddrPort]bool{}
	for failures := range 12 {
		effects := c.step(now, dialled{idOf(2), false})
		require.Empty(t, effects)
		pause := c.contacts[idOf(2)].next.Sub(now)
		nominal := min(minBackoff<<(failures+1), soonBackoff)
		require.GreaterOrEqual(t, pause, nominal/2)
		require.Less(t, pause, nominal)

		now = now.Add(pause)
		dials := effectsOf[dial](c.step(now, tick{}))
		require.Len(t, dials, 1)
		tried[dials[0].addr] = true
	}
	require.Len(t, tried, 2)
}

func TestCandidateThatIsSeenAgainIsDialledSoon(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, offered{idOf(2), addrOf(2)})
	c.step(epoch, dialled{idOf(2), false})
	c.contacts[idOf(2)].next = epoch.Add(soonBackoff)

	seen := epoch.Add(time.Second)
	c.step(seen, offered{idOf(2), addrOf(3)})
	require.Empty(t, c.step(seen.Add(minBackoff-1), tick{}))
	require.Equal(t, []effect{dial{idOf(2), addrOf(3)}}, c.step(seen.Add(minBackoff), tick{}), "where it was seen last")
}

func TestContactThatIsNoUseIsForgotten(t *testing.T) {
	c := newCore(idOf(1))
	now := epoch
	c.step(now, offered{idOf(2), addrOf(2)})
	for now.Before(epoch.Add(greetTime)) {
		require.Len(t, c.contacts, 1)
		if c.contacts[idOf(2)].dialling {
			c.step(now, dialled{idOf(2), false})
		}
		now = now.Add(tickEvery)
		c.step(now, tick{})
	}
	if c.dialling > 0 {
		c.step(now, dialled{idOf(2), false})
	}
	c.step(now.Add(2*reviewEvery), tick{})
	require.Empty(t, c.contacts)
	require.Empty(t, c.table)
	require.Zero(t, c.dialling)
}

func TestFloodOfCandidatesIsBounded(t *testing.T) {
	c := newCore(idOf(1))
	dials := 0
	for i := range uint64(5000) {
		dials += len(effectsOf[dial](c.step(epoch.Add(time.Duration(i)), offered{idOf(2 + i), addrOf(2)})))
	}
	require.Equal(t, greetAll, dials)
	require.Len(t, c.contacts, greetAll+maxStrangers)

	c.step(epoch.Add(time.Second), dialled{idOf(2), false})
	require.NotEmpty(t, effectsOf[dial](c.step(epoch.Add(time.Second), tick{})), "others follow")
	c.step(epoch.Add(time.Second), offered{idOf(9999), addrOf(2)})
	require.Contains(t, c.contacts, idOf(9999), "which makes room")

	for k := range c.contacts {
		c.step(epoch.Add(time.Second), reach{k})
	}
	require.Equal(t, maxDials, c.dialling)
}

// Nodes that start at once and see each other all, as on a subnet, do not dial each other all.
func TestStrangersAreLookedUpBeforeTheyAreDialled(t *testing.T) {
	simulate(t, 3, func(s *sim) {
		const count = 60
		for range count {
			s.start(demo).announce(demoGroup, 1)
		}
		for _, n := range s.nodes {
			for _, i := range s.rng.Perm(count) {
				s.post(s.now.Add(time.Duration(s.rng.Int64N(int64(400*time.Millisecond)))), n, func() { n.offer(s.nodes[i]) })
			}
		}
		s.until(4*time.Second, "all views converge", s.converged)
		s.run(time.Minute)
		s.t.Logf("%d dials, %d in vain, of %d nodes", s.dials, s.dialFails, count)
		require.Less(s.t, s.dials-s.dialFails, count*(count-1)/2*2/3, "of all pairs")
	})
}

func TestStrangersOfAnotherNetworkAreDialled(t *testing.T) {
	simulate(t, 3, func(s *sim) {
		one, two := s.mesh(30, demo), s.mesh(20, demo)
		one[3].announce(demoGroup, 1)
		s.run(5 * time.Second)
		one[3].offer(two[5])
		s.until(10*time.Second, "two networks become one", s.converged)
	})
}

func TestUselessCandidatesAreIgnored(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, offered{idOf(1), addrOf(1)})
	for _, addr := range []string{"0.0.0.0:1", "224.0.0.1:1", "127.0.0.1:0", "[::]:1", "[ff02::1]:1"} {
		c.step(epoch, offered{idOf(2), netip.MustParseAddrPort(addr)})
	}
	c.step(epoch, offered{idOf(2), netip.AddrPort{}})
	require.Empty(t, c.contacts)
}
