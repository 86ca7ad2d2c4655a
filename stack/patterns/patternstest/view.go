package patternstest

import (
	"math/big"
	"slices"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// near is how many members on either side are in a view without a gap.
const near = 16

// Cut yields what a view of a large group tells a node, as overlay.Handler has it. members
// are all others, sorted by id, and so is the result.
func Cut(self link.ID, members []overlay.Member) []overlay.Member {
	count := len(members)
	if count <= 2*near {
		return slices.Clone(members)
	}
	behind := func(id link.ID) int { // the index of the first member at or behind id
		at, _ := slices.BinarySearchFunc(members, id, func(m overlay.Member, id link.ID) int { return m.Node.Compare(id) })
		return at % count
	}
	first := behind(self)
	chosen := make([]int, 0, 100)
	for i := range 2 * near {
		chosen = append(chosen, (first-near+i+count)%count)
	}
	for octave := 255; octave >= 0; octave-- {
		far := 0
		for quarter := range 4 {
			at := behind(point(self, octave, quarter))
			if (at-first+count)%count >= near {
				far++
			}
			chosen = append(chosen, at)
		}
		if far == 0 { // all nearer ones are in it already
			break
		}
	}
	slices.Sort(chosen)
	var view []overlay.Member
	for _, i := range slices.Compact(chosen) {
		view = append(view, members[i])
	}
	return view
}

// point is self + 2^octave*(4+quarter)/4.
func point(self link.ID, octave, quarter int) link.ID {
	p := big.NewInt(int64(4 + quarter))
	p.Rsh(p.Lsh(p, uint(octave)), 2)
	p.Add(p, new(big.Int).SetBytes(self[:]))
	var sum [len(self) + 1]byte
	p.FillBytes(sum[:])
	return link.ID(sum[1:])
}
