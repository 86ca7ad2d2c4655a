package overlay

import (
	"encoding/binary"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

func randomID(rng *rand.Rand) (id link.ID) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], rng.Uint64())
	}
	return id
}

// keptOf is what a keeper knows of a group with these members.
func keptOf(ids []link.ID) *kept {
	k := &kept{records: map[link.ID]*record{}}
	for _, id := range slices.SortedFunc(slices.Values(ids), link.ID.Compare) {
		r := &record{node: id, version: 1, count: 1}
		k.records[id] = r
		k.members = append(k.members, r)
	}
	return k
}

var ring = new(big.Int).Lsh(big.NewInt(1), 256)

// behind is how far b is behind a on the ring of ids.
func behind(a, b link.ID) *big.Int {
	d := new(big.Int).Sub(new(big.Int).SetBytes(b[:]), new(big.Int).SetBytes(a[:]))
	return d.Mod(d, ring)
}

// specified are the members around id, as Handler.View's comment has it.
func specified(id link.ID, members []link.ID) map[link.ID]bool {
	others := slices.DeleteFunc(slices.Clone(members), func(m link.ID) bool { return m == id })
	slices.SortFunc(others, link.ID.Compare)
	at, _ := slices.BinarySearchFunc(others, id, link.ID.Compare)
	others = slices.Concat(others[at:], others[:at])
	var distances []*big.Int
	for _, o := range others {
		distances = append(distances, behind(id, o))
	}
	around := map[link.ID]bool{}
	for i := range 16 {
		around[others[i]], around[others[len(others)-1-i]] = true, true
	}
	for j := range 256 {
		for m := range int64(4) {
			point := new(big.Int).Lsh(big.NewInt(4+m), uint(j))
			point.Rsh(point, 2)
			if point.Cmp(distances[15]) > 0 {
				i, _ := slices.BinarySearchFunc(distances, point, (*big.Int).Cmp)
				around[others[i%len(others)]] = true // the first comes after the last
			}
		}
	}
	return around
}

func TestPartOfALargeGroupIsWhatIsPromised(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for round := range 9 {
		var ids []link.ID
		for range 1000 {
			id := randomID(rng)
			if round%3 == 1 { // crowded
				id[0] = byte(round)
			}
			ids = append(ids, id)
		}
		k := keptOf(ids)
		for _, id := range append(ids[:20:20], randomID(rng), link.ID{}, link.ID{0: 255, 31: 255}) {
			got := nodesOf(k.around(id))
			delete(got, id)
			require.Equal(t, specified(id, ids), got)
			require.Less(t, len(got), maxView)
			require.True(t, slices.IsSortedFunc(k.around(id), func(a, b *record) int { return a.node.Compare(b.node) }))
		}
	}
}

func TestGroupThatIsNotLargeIsShownWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	var ids []link.ID
	for range maxWhole {
		ids = append(ids, randomID(rng))
	}
	require.Len(t, keptOf(ids).around(ids[0]), maxWhole)
	require.Less(t, len(keptOf(append(ids, randomID(rng))).around(ids[0])), maxWhole)
}

// A watching is a peer that adds up what it is told of the view.
type watching struct {
	id      link.ID
	entries map[link.ID]uint32
	whole   bool
	unacked []uint64
}

func (w *watching) take(t *testing.T, list []view) {
	for _, m := range list {
		if m.first {
			w.entries = map[link.ID]uint32{}
		}
		require.NotNil(t, w.entries, "a view comes first")
		for _, e := range m.list {
			if e.count == 0 {
				delete(w.entries, e.node)
			} else {
				w.entries[e.node] = e.count
			}
		}
		w.whole = m.whole
		w.unacked = append(w.unacked, m.sequence)
	}
}

// A watcher that adds up changes has what it would be told from the start, whether it keeps up or
// not, in groups that grow and shrink.
func TestChangesOfAViewAddUp(t *testing.T) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 0))
		r := newRig(t, self)
		keeper := idOf(2)
		r.link(keeper)
		var watchers []*watching
		for range 4 {
			w := &watching{id: randomID(rng)}
			watchers = append(watchers, w)
			r.link(w.id)
			w.take(t, sentTo[view](r, w.id, r.hear(w.id, stances{1, []stance{{demoGroup, true, false, 1, 0}}})))
		}
		r.hear(keeper, replica{1, []share{{demoGroup, true, false, false, nil}}})
		settle := func(effects []effect) {
			for _, w := range watchers {
				w.take(t, sentTo[view](r, w.id, effects))
			}
			if p := r.c.peer(keeper); len(p.outbox.unacked) > 0 {
				r.hear(keeper, ack{p.outbox.unacked[0].sequence})
			}
		}
		settle(r.pass(readyWait + reviewEvery))

		var ids []link.ID
		for range 1000 {
			ids = append(ids, randomID(rng))
		}
		version, sequence := uint64(1), uint64(1)
		change := func(list ...link.ID) {
			var records []replicated
			for _, id := range list {
				version++
				count := uint32(rng.IntN(3))
				records = append(records, replicated{id, addrOf(hostOf(id)), version, count})
			}
			sequence++
			settle(r.hear(keeper, replica{sequence, []share{{demoGroup, true, false, false, records}}}))
		}
		confirm := func(w *watching) {
			for len(w.unacked) > 0 {
				seq := w.unacked[0]
				w.unacked = w.unacked[1:]
				settle(r.hear(w.id, ack{seq}))
			}
		}
		check := func() {
			for _, w := range watchers {
				confirm(w)
				want := map[link.ID]uint32{}
				k := r.c.groups[demo].kept
				for _, m := range k.around(w.id) {
					want[m.node] = m.count
				}
				require.Equal(t, want, w.entries)
				require.Equal(t, len(k.members) <= maxWhole, w.whole)
			}
		}
		for range 6 {
			for range rng.IntN(20) {
				i, n := rng.IntN(900), 1+rng.IntN(100)
				change(ids[i : i+n]...)
				if w := watchers[rng.IntN(3)]; rng.IntN(3) > 0 { // the fourth is slow
					confirm(w)
				}
			}
			for range 100 {
				change(ids[rng.IntN(1000)])
			}
			check()
		}
		some := slices.Collect(maps.Keys(r.c.groups[demo].kept.records))
		for len(r.c.groups[demo].kept.members) > maxWhole-20 { // and small again
			version++
			sequence++
			settle(r.hear(keeper, replica{sequence, []share{{demoGroup, true, false, false, []replicated{{some[0], addrOf(9), version, 0}}}}}))
			some = some[1:]
			if rng.IntN(50) == 0 {
				check()
			}
		}
		check()
	}
}

// The core's own views are those that it would tell another node with its id.
func TestKeeperShowsItselfWhatItWouldTellOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	r := newRig(t, self)
	r.step(watch{demoGroup})
	r.link(idOf(2))
	ids := []link.ID{}
	for i := range 1000 {
		ids = append(ids, randomID(rng))
		effects := r.hear(idOf(2), replica{uint64(1 + i), []share{{demoGroup, true, false, false, []replicated{{ids[i], addrOf(9), 1, 1}}}}})
		for _, v := range effectsOf[pushView](effects) {
			require.Equal(t, i < maxWhole, v.whole)
		}
	}
	want := specified(self, ids)
	got := map[link.ID]bool{}
	for _, m := range r.c.groups[demo].shown {
		got[m.Node] = true
	}
	require.Equal(t, want, got)
}
