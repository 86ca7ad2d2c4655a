package patternstest

import (
	"maps"
	"math/big"
	"slices"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// near is how many members on either side are in a view without a gap.
const near = 16

// A view is of a group, for a node; for all that watch the group if nil.
type view struct {
	group overlay.Key
	to    *Overlay
}

// count sets how many members of a group a node hosts. The caller holds the lock.
func (w *Network) count(key overlay.Key, node link.ID, count int) {
	all := w.members[key]
	at, found := slices.BinarySearchFunc(all, node, func(m overlay.Member, id link.ID) int { return m.Node.Compare(id) })
	switch {
	case found && count > 0:
		all[at].Count = count
	case found:
		all = slices.Delete(all, at, at+1)
	case count > 0:
		all = slices.Insert(all, at, overlay.Member{Node: node, Count: count})
	}
	w.members[key] = all
}

// push has Run tell a view as it is then. The caller holds the lock.
func (w *Network) push(v view) {
	if w.stale[v] {
		return
	}
	w.stale[v] = true
	w.enqueueIn(w.Lag, func() { w.tell(v) })
}

func (w *Network) tell(v view) {
	w.mu.Lock()
	delete(w.stale, v)
	to := []*Overlay{v.to}
	if v.to == nil {
		to = slices.DeleteFunc(slices.Collect(maps.Values(w.nodes)), func(o *Overlay) bool { return !o.watches[v.group] })
	}
	all := slices.Clone(w.members[v.group])
	w.mu.Unlock()
	for _, o := range to {
		if w.Whole > 0 && len(all) > w.Whole+1 {
			o.Handler.View(v.group, Cut(o.id, all), false)
			continue
		}
		others := slices.DeleteFunc(slices.Clone(all), func(m overlay.Member) bool { return m.Node == o.id })
		o.Handler.View(v.group, others, true)
	}
}

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
