package discovery

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sightingOf(i int) sighting {
	var s sighting
	binary.BigEndian.PutUint32(s.id[:], uint32(i))
	s.addr = testAddr
	return s
}

func TestGateReportsANodeOncePerSecond(t *testing.T) {
	g := newGate(claimInterval, claimBurst)
	reports := 0
	for i := range 100 {
		report, fresh := g.pass(testEpoch.Add(time.Duration(i)*100*time.Millisecond), sightingOf(1), i%2 == 0)
		require.Equal(t, i == 0, fresh)
		if report {
			reports++
		}
	}
	require.Equal(t, 10, reports)
}

func TestGateReportsANodeAtItsNewAddressAtOnce(t *testing.T) {
	g := newGate(claimInterval, claimBurst)
	s := sightingOf(1)
	g.pass(testEpoch, s, true)
	s.addr = netip.MustParseAddrPort("10.0.0.9:23550")
	report, fresh := g.pass(testEpoch, s, true)
	require.True(t, report)
	require.True(t, fresh)
}

func TestGateRemembersABoundedNumber(t *testing.T) {
	g := newGate(claimInterval, claimBurst)
	for i := range 5 * gateSightings {
		g.pass(testEpoch, sightingOf(i), true)
		require.LessOrEqual(t, len(g.young)+len(g.old), 2*gateSightings)
	}
	report, _ := g.pass(testEpoch, sightingOf(5*gateSightings-gateSightings), true)
	require.False(t, report, "the last ones are remembered")
}

func TestGateBoundsClaimsButNotProofs(t *testing.T) {
	g := newGate(claimInterval, claimBurst)
	claims, proofs := 0, 0
	for i := range 10_000 {
		now := testEpoch.Add(time.Duration(i) * time.Millisecond)
		if report, _ := g.pass(now, sightingOf(2*i), false); report {
			claims++
		}
		if report, _ := g.pass(now, sightingOf(2*i+1), true); report {
			proofs++
		}
	}
	require.InDelta(t, claimBurst+10*100, claims, 2)
	require.Equal(t, 10_000, proofs)
}

func TestRecentForgetsWhatWasSeenLongestAgo(t *testing.T) {
	var r recent
	addr := func(i int) netip.AddrPort { return netip.AddrPortFrom(testAddr.Addr(), uint16(i)) }
	for i := range recentAddresses + 10 {
		r.saw(addr(i))
		r.saw(addr(0))
	}
	require.Len(t, r.addrs, recentAddresses)
	require.Contains(t, r.addrs, addr(0))
	require.NotContains(t, r.addrs, addr(5))

	skip := make(map[netip.AddrPort]struct{})
	seen := make(map[netip.AddrPort]bool)
	for range recentAddresses {
		a, ok := r.missing(skip, nil)
		require.True(t, ok)
		seen[a] = true
	}
	require.Len(t, seen, recentAddresses, "each has its turn")
	for _, a := range r.addrs {
		skip[a] = struct{}{}
	}
	_, ok := r.missing(skip, nil)
	require.False(t, ok)
}
