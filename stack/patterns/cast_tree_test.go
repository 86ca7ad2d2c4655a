package patterns_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// A forest is a group whose trees are drawn without anything being sent.
type forest struct {
	t       *testing.T
	members []overlay.Member // sorted
	whole   int              // up to how many members views are whole
	dead    map[link.ID]bool // and known by nobody to be

	copies map[link.ID]int // that came to each node
	most   int             // that a node has sent
	deaths int             // that a node had to go around, at most
	depth  int
	unsent int
}

func forestOf(t *testing.T, ids []link.ID) *forest {
	f := &forest{t: t, whole: 64, dead: make(map[link.ID]bool)}
	for _, id := range slices.Compact(slices.SortedFunc(slices.Values(ids), link.ID.Compare)) {
		f.members = append(f.members, overlay.Member{Node: id, Count: 1})
	}
	return f
}

func randomIDs(rng *rand.Rand, n int) []link.ID {
	ids := make([]link.ID, n)
	for i := range ids {
		for at := 0; at < len(ids[i]); at += 8 {
			binary.BigEndian.PutUint64(ids[i][at:], rng.Uint64())
		}
	}
	return ids
}

// view is what a node is told of the group.
func (f *forest) view(of link.ID) ([]overlay.Member, bool) {
	if len(f.members) > f.whole+1 {
		return patternstest.Cut(of, f.members), false
	}
	others := slices.DeleteFunc(slices.Clone(f.members), func(m overlay.Member) bool { return m.Node == of })
	return others, len(others) <= f.whole
}

// plant sends a message from a node.
func (f *forest) plant(from link.ID) {
	f.copies, f.most, f.deaths, f.depth, f.unsent = make(map[link.ID]int), 0, 0, 0, 0
	lo, hi := patterns.Round(from)
	level := []patterns.Hop{{To: from, Lo: lo, Hi: hi}}
	for ; len(level) > 0; f.depth++ {
		var next []patterns.Hop
		for _, h := range level {
			next = append(next, f.handOn(h)...)
		}
		level = next
	}
	f.depth--
}

// handOn yields how a message goes on from where it has come.
func (f *forest) handOn(h patterns.Hop) []patterns.Hop {
	if h.Lo == h.To && h.Hi == h.To {
		return nil
	}
	view, whole := f.view(h.To)
	var sent []patterns.Hop
	var failed []link.ID
	todo := []patterns.Hop{h}
	for len(todo) > 0 {
		hops, unsent := patterns.Spread(h.To, view, whole, todo[0].Lo, todo[0].Hi, failed)
		f.unsent += unsent
		todo = todo[1:]
		for _, next := range hops {
			if !f.dead[next.To] {
				f.copies[next.To]++
				sent = append(sent, next)
				continue
			}
			failed = append(failed, next.To)
			if next.Lo != next.To || next.Hi != next.To {
				todo = append(todo, next)
			}
		}
	}
	f.deaths = max(f.deaths, len(failed))
	if len(failed) == 0 {
		f.most = max(f.most, len(sent))
	}
	return sent
}

func TestTreeOverPartialViewsReachesAllOnce(t *testing.T) {
	for n, depth := range map[int]int{65: 2, 66: 3, 100: 3, 1000: 4, 4000: 5, 100_000: 7} {
		if raceDetector && n > 4000 {
			continue
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(n), 0))
			ids := append(randomIDs(rng, n-1), link.ID{})
			stranger := randomIDs(rng, 1)[0]
			f := forestOf(t, ids)
			deepest := 0
			for _, from := range append(ids[max(0, n-1-20_000/n):], stranger) {
				f.plant(from)
				deepest = max(deepest, f.depth)
				require.Zero(t, f.unsent)
				require.LessOrEqual(t, f.most, 16, "copies of a node")
				for _, m := range f.members {
					if m.Node != from && f.copies[m.Node] != 1 {
						t.Fatalf("%d copies to %v from %v", f.copies[m.Node], m.Node, from)
					}
				}
				require.Zero(t, f.copies[from], "copies to the sender")
			}
			t.Logf("%d members: depth %d", n, deepest)
			require.LessOrEqual(t, deepest, depth)
		})
	}
}

func TestTreeOverWholeViewsOf256OthersTakesTwoHops(t *testing.T) {
	ids := randomIDs(rand.New(rand.NewPCG(1, 1)), 257)
	f := forestOf(t, ids)
	f.whole = 1000
	for _, from := range ids {
		f.plant(from)
		require.Equal(t, 2, f.depth)
		require.LessOrEqual(t, f.most, 16)
		require.Len(t, f.copies, 256)
	}
}

func TestTreeOverFewOfManyIsATree(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		for view, leaves := range map[byte]int{3: 1, 4: 3, 10: 9} { // all but those in the middle
			h, o := manual(w, patterns.Config{})
			p := h.client()
			go p.publish("1")
			synctest.Wait()
			h.View(overlay.KeyOf(overlay.KindTopic, []byte("t")), members(names(int(view) + 1)[1:]...), false)
			synctest.Wait()
			require.Len(t, o.sent, int(view))
			alone := 0
			for _, s := range o.sent {
				require.EqualValues(t, 1, s.body[1], "in a tree")
				if bytes.Equal(s.body[61:93], s.body[93:125]) {
					alone++
				}
			}
			require.Equal(t, leaves, alone, "of %d", view)
		}
	})
}

// TestTreeOverCrowdedIdsReachesAllOnce has ids that are not spread evenly.
func TestTreeOverCrowdedIdsReachesAllOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		ids := randomIDs(rng, 300)
		for i := range ids {
			copy(ids[i][:], ids[0][:rng.IntN(20)])
			if rng.IntN(3) == 0 { // next to another
				ids[i] = ids[rng.IntN(len(ids))]
				ids[i][31]++
			}
		}
		f := forestOf(t, ids)
		for _, m := range f.members[:10] {
			f.plant(m.Node)
			require.Zero(t, f.unsent)
			require.LessOrEqual(t, f.most, 16)
			for _, other := range f.members {
				if other != m {
					require.Equal(t, 1, f.copies[other.Node])
				}
			}
		}
	}
}

func TestTreeGoesAroundTheDead(t *testing.T) {
	for _, percent := range []int{1, 10, 30} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(percent), 1))
			ids := randomIDs(rng, 4000)
			f := forestOf(t, ids)
			for _, id := range ids[1 : 1+len(ids)*percent/100] {
				f.dead[id] = true
			}
			f.plant(ids[0])
			require.Zero(t, f.unsent)
			again := 0
			for _, m := range f.members {
				if f.dead[m.Node] || m.Node == ids[0] {
					continue
				}
				require.Positive(t, f.copies[m.Node], "every one alive gets it")
				again += f.copies[m.Node] - 1
			}
			t.Logf("%d %% of 4,000 dead: depth %d, %d copies too many, a node went around %d at most", percent, f.depth, again, f.deaths)
			require.LessOrEqual(t, f.depth, patterns.MaxHops)
		})
	}
}
