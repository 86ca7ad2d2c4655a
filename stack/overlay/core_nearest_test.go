package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

func TestNearestAreTheClosestOfTheWholeTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	random := func() (id link.ID) {
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		return id
	}
	c := newCore(random())
	c.now = time.Unix(1, 0)
	for i := range 500 { // more of them the closer they are than chance would have it
		id := within(c.self, i%20, random())
		require.NotNil(t, c.learn(id, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, c.now, true))
	}
	targets := []link.ID{c.self}
	for i := range 40 {
		targets = append(targets, random(), within(c.self, i, random()), c.table[rng.IntN(500)].id)
	}
	for i, target := range targets {
		for _, n := range []int{1, 8, 100, 1000} {
			t.Run(fmt.Sprint(i, " ", n), func(t *testing.T) {
				ok := func(k *contact) bool { return k.id[31]%4 != 0 }
				var want []*contact
				for _, k := range c.table {
					if ok(k) {
						want = append(want, k)
					}
				}
				slices.SortFunc(want, func(a, b *contact) int { return closer(target, a.id, b.id) })
				require.Equal(t, want[:min(n, len(want))], c.nearest(target, n, ok))
			})
		}
	}
}
