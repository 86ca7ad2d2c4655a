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
// are all, sorted by id; so is the result, without the node itself.
func Cut(self link.ID, members []overlay.Member) []overlay.Member {
	place := func(id link.ID) (int, bool) {
		return slices.BinarySearchFunc(members, id, func(m overlay.Member, id link.ID) int { return m.Node.Compare(id) })
	}
	at, among := place(self)
	others := len(members)
	if among {
		others--
		at++
	}
	if others <= 2*near {
		return slices.DeleteFunc(slices.Clone(members), func(m overlay.Member) bool { return m.Node == self })
	}
	// Members count from the one that follows the node.
	number := func(id link.ID) int {
		i, _ := place(id)
		return (i - at + len(members)) % len(members) % others // behind the last is the first; the node itself does not count
	}
	var chosen []int
	for i := range near {
		chosen = append(chosen, i, others-near+i)
	}
	for octave := 255; octave >= 0; octave-- {
		any := false
		for quarter := range 4 {
			far := number(point(self, octave, quarter))
			any = any || far >= near
			chosen = append(chosen, far)
		}
		if !any { // what is nearer is in it already
			break
		}
	}
	slices.Sort(chosen)
	var view []overlay.Member
	for _, i := range slices.Compact(chosen) {
		view = append(view, members[(at+i)%len(members)])
	}
	slices.SortFunc(view, func(a, b overlay.Member) int { return a.Node.Compare(b.Node) })
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
