package discovery

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestShuffleIsAPermutation(t *testing.T) {
	for _, size := range []uint32{1, 2, 3, 4, 5, 6, 15, 16, 17, 254, 255, 256, 257, 1022, 4094, 65534} {
		for seed := range uint64(3) {
			order := newShuffle(size, seed)
			seen := make([]bool, size)
			for i := range size {
				n := order.at(i)
				if n >= size || seen[n] {
					t.Fatalf("size %d, seed %d: %d at %d is out of range or there twice", size, seed, n, i)
				}
				seen[n] = true
			}
		}
	}
	require.Less(t, newShuffle(1<<24-2, 1).at(1<<24-3), uint32(1<<24-2))
}

func TestShuffleSpreadsAndDiffersBySeed(t *testing.T) {
	a, b := newShuffle(1022, 1), newShuffle(1022, 2)
	neighbours, same := 0, 0
	for i := range uint32(1021) {
		if a.at(i)+1 == a.at(i+1) {
			neighbours++
		}
		if a.at(i) == b.at(i) {
			same++
		}
	}
	require.Less(t, neighbours, 10)
	require.Less(t, same, 10)
}

func TestFieldsCoverHostsOnly(t *testing.T) {
	for subnet, want := range map[string]struct {
		first, last string
		size        uint32
	}{
		"10.0.0.7/32":  {"10.0.0.7", "10.0.0.7", 1},
		"10.0.0.7/31":  {"10.0.0.6", "10.0.0.7", 2},
		"10.0.0.7/30":  {"10.0.0.5", "10.0.0.6", 2},
		"10.0.0.7/24":  {"10.0.0.1", "10.0.0.254", 254},
		"127.0.0.1/16": {"127.0.0.1", "127.0.255.254", 65534},
		"127.0.0.1/8":  {"127.0.0.1", "127.255.255.254", 1<<24 - 2},
	} {
		f := newField(netip.MustParsePrefix(subnet), 1)
		first, last := netip.MustParseAddr(want.first), netip.MustParseAddr(want.last)
		require.Equal(t, want.size, f.size, subnet)
		require.True(t, f.holds(first))
		require.True(t, f.holds(last))
		require.False(t, f.holds(first.Prev()))
		require.False(t, f.holds(last.Next()))
	}
}

func TestFieldVisitsEveryHostOnOnePortPerLap(t *testing.T) {
	f := newField(netip.MustParsePrefix("10.0.0.0/26"), 3)
	var orders [][]netip.Addr
	for lap := range 2 * Ports {
		require.Equal(t, lap, f.laps)
		var order []netip.Addr
		for range f.size {
			target := f.next()
			require.Equal(t, port(lap), target.Port())
			require.True(t, f.holds(target.Addr()))
			require.NotContains(t, order, target.Addr())
			order = append(order, target.Addr())
		}
		require.NotContains(t, orders, order, "each lap has an order of its own")
		orders = append(orders, order)
	}
}

func TestFieldsAreDisjointSmallestFirstAndFastWithinOneNeighbourTable(t *testing.T) {
	fields, err := newFields(prefixes("10.0.0.0/16", "10.0.3.0/24", "192.168.0.9/24", "172.16.0.0/23", "192.168.0.0/24", "172.20.0.0/23"), nil, 1)
	require.NoError(t, err)
	var got []string
	for _, f := range fields {
		got = append(got, f.subnet.String())
	}
	require.Len(t, got, 4)
	require.Equal(t, "192.168.0.0/24", got[0])
	require.ElementsMatch(t, []string{"172.16.0.0/23", "172.20.0.0/23"}, got[1:3])
	require.Equal(t, "10.0.0.0/16", got[3])
	require.Equal(t, []bool{true, true, false, false}, []bool{fields[0].fast, fields[1].fast, fields[2].fast, fields[3].fast})
}

func TestSweepTakesOwnHostThenSmallThenLargeThenTurns(t *testing.T) {
	fields, err := newFields(prefixes("10.0.0.0/20", "10.9.0.0/29", "10.8.0.0/30"), nil, 1)
	require.NoError(t, err)
	self := netip.AddrPortFrom(netip.MustParseAddr("10.9.0.3"), port(1))
	c := Config{Exclude: self}
	s := newSweep(fields, neighbours(fields, c.self(c.Host)))
	take := func(n int) (targets []netip.AddrPort) {
		for range n {
			targets = append(targets, s.next())
		}
		return targets
	}
	within := func(p string) func(netip.AddrPort) bool {
		return func(a netip.AddrPort) bool { return !netip.MustParsePrefix(p).Contains(a.Addr()) }
	}
	require.Equal(t, []uint16{port(0), port(2), port(3), port(4)}, []uint16{s.first[0].Port(), s.first[1].Port(), s.first[2].Port(), s.first[3].Port()})
	for _, own := range take(4) {
		require.Equal(t, self.Addr(), own.Addr())
	}
	for _, target := range take(2 + 6) {
		require.Equal(t, FirstPort, target.Port())
	}
	small := take((2 + 6) * (Ports - 1))
	for _, target := range small {
		require.NotEqual(t, FirstPort, target.Port())
	}
	require.False(t, slices.ContainsFunc(small, within("10.8.0.0/15")))
	stage, _ := s.current()
	require.Equal(t, stageLarge, stage)
	require.False(t, slices.ContainsFunc(take(1<<12-2), within("10.0.0.0/20")))
	stage, _ = s.current()
	require.Equal(t, stageEndless, stage)
	turns := take(300)
	for _, subnet := range []string{"10.0.0.0/20", "10.9.0.0/29", "10.8.0.0/30"} {
		away := within(subnet)
		require.Len(t, slices.DeleteFunc(slices.Clone(turns), away), 100, subnet)
	}
}
