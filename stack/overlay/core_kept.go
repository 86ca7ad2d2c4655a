package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxKept       = 100_000                 // records of a group
	maxPeerGroups = 100_000                 // that a peer has a stance on
	orphanTime    = 10 * time.Second        // that a record is kept when nobody answers for it any more
	orphanNews    = 1500 * time.Millisecond // that new keepers are told of it, and keep it for as long again
	tombTime      = time.Minute             // that is remembered who left, so that older news does not bring it back
	warnEvery     = 5 * time.Second         // who tells a stance to a node that should not be its keeper
	shunTime      = 10 * time.Second        // a node that does not keep a group is not told of it
)

// Kept is what a keeper knows of a group.
type kept struct {
	records  map[link.ID]*record
	members  []*record // those with members, by node
	attached peerSet   // who tell this node their stance
	watchers map[*peer]*watcher
	co       peerSet // the other keepers
	shunned  map[link.ID]time.Time
	self     bool               // this node's own stance is kept here
	ready    bool               // the other keepers have told what they know: views may be shown
	began    time.Time          // when it was not
	hearing  map[*peer]*promise // whose word ready waits for
	reviewed time.Time
	warned   time.Time // when attached nodes were last told of closer ones
}

// A record says how many members a node hosts. The node itself tells it to one
// keeper, which answers for it and tells the others.
type record struct {
	node    link.ID
	addr    netip.AddrPort
	version uint64
	count   uint32    // 0: it left
	by      link.ID   // the keeper that it told, which answers for it; zero: nobody does
	lapses  time.Time // when nobody answers for it, or its node left
}

// A watcher gets the view of a group.
type watcher struct {
	begun    bool       // its first view is on its way
	promises []*promise // that wait for it
	part     bool       // it is not shown all
	shown    map[link.ID]bool
}

// A lapse is a record that lapses at some time unless it is renewed.
type lapse struct {
	at time.Time
	g  *group
	r  *record
}

// lapses are in the order of their times each.
type lapses struct{ orphans, tombs []lapse }

// lapse lets a record lapse after a time, and no sooner.
func (c *core) lapse(list *[]lapse, after time.Duration, g *group, r *record) {
	r.lapses = c.now.Add(after)
	*list = append(*list, lapse{r.lapses, g, r})
}

// holds tells whether a record lapses now: it was not renewed.
func (l lapse) holds() bool {
	return l.g.kept != nil && l.g.kept.records[l.r.node] == l.r && l.r.lapses.Equal(l.at)
}

// A peerSet is a set of peers, sorted by id.
type peerSet []*peer

func (s peerSet) search(p *peer) (int, bool) {
	return slices.BinarySearchFunc(s, p, func(a, b *peer) int { return a.id.Compare(b.id) })
}

func (s peerSet) has(p *peer) bool {
	i, ok := s.search(p)
	return ok && s[i] == p
}

func (s *peerSet) add(p *peer) {
	if i, ok := s.search(p); !ok {
		*s = slices.Insert(*s, i, p)
	}
}

func (s *peerSet) remove(p *peer) {
	if i, ok := s.search(p); ok {
		*s = slices.Delete(*s, i, i+1)
	}
}

// keep yields what is kept of a group. fresh: nothing was until now, and the other
// keepers have yet to be met.
func (c *core) keep(g *group) (k *kept, fresh bool) {
	if g.kept != nil {
		return g.kept, false
	}
	g.kept = &kept{
		records: map[link.ID]*record{}, watchers: map[*peer]*watcher{}, shunned: map[link.ID]time.Time{},
		began: c.now, hearing: map[*peer]*promise{},
	}
	return g.kept, true
}

// unwatch ends that a peer watches.
func (k *kept) unwatch(p *peer) {
	if w := k.watchers[p]; w != nil {
		delete(k.watchers, p)
		for _, pr := range w.promises {
			pr.release()
		}
	}
}

// receive takes the stances of a peer.
func (m stances) receive(c *core, p *peer) error {
	pr := &promise{open: 1, then: func() { c.acknowledge(p, m.sequence) }}
	defer pr.release()
	for _, s := range m.list {
		if p.left { // what it had to tell ended with that
			break
		}
		if len(p.tells) >= maxPeerGroups {
			return fmt.Errorf("%w: stances on more than %d groups", errMalformed, maxPeerGroups)
		}
		c.takeStance(p, s, pr)
	}
	return nil
}

func (c *core) takeStance(p *peer, s stance, pr *promise) {
	g := c.groups[s.group.Key()]
	if g == nil || g.kept == nil {
		if s.gone || s.count == 0 && !s.watch {
			return
		}
		g = c.group(s.group)
	}
	k, fresh := c.keep(g)
	if s.gone || s.count == 0 && !s.watch {
		k.attached.remove(p)
		delete(p.tells, g)
	} else {
		k.attached.add(p)
		p.tells[g] = true
		c.watchSoon(p, p.heard.Add(pingSoon))
	}
	if fresh {
		c.stale = true
		c.meetKeepers(g, pr)
	}
	if s.gone {
		k.unwatch(p)
		if r := k.records[p.id]; r != nil && r.by == c.self {
			c.orphan(g, r)
		}
		return
	}
	c.takeRecord(g, record{node: p.id, addr: p.contact.addrs[0], version: s.version, count: s.count, by: c.self}, pr)
	switch w := k.watchers[p]; {
	case !s.watch:
		k.unwatch(p)
	case w == nil:
		k.watchers[p] = &watcher{promises: []*promise{pr.hold()}}
		if k.ready {
			c.showAll(g, p)
		}
	}
}

// tellSelf is tell where this node is the keeper.
func (c *core) tellSelf(g *group) {
	c.version++
	g.version = c.version
	k, fresh := c.keep(g)
	promises := g.promises
	g.promises = nil
	pr := &promise{open: 1, then: func() {
		for _, pr := range promises {
			pr.release()
		}
	}}
	k.self = g.concerns()
	if !k.self {
		g.keeper = link.ID{}
	}
	if fresh {
		c.meetKeepers(g, pr)
	}
	c.takeRecord(g, record{node: c.self, version: g.version, count: g.count, by: c.self}, pr)
	c.push(g)
	pr.release()
}

// leaveSelf ends that: another keeper is told now.
func (c *core) leaveSelf(g *group) {
	if g.kept == nil {
		return
	}
	g.kept.self = false
	if r := g.kept.records[c.self]; r != nil && r.by == c.self {
		c.orphan(g, r)
	}
}

// takeRecord takes a record unless a newer one is known. What this node answers for it
// tells the other keepers. pr is held until everybody shows it.
func (c *core) takeRecord(g *group, r record, pr *promise) {
	k := g.kept
	old := k.records[r.node]
	switch {
	case r.by != c.self && c.knowsBetter(g, r):
		if old == nil { // it hosts nothing, and so there was nothing to tell
			old = &record{node: r.node, version: r.version, by: c.self}
			k.records[r.node] = old
			c.changedRecord(g, old, 0, nil)
			c.tellFellows(g, old, nil)
		}
		return
	case old == nil && len(k.records) >= maxKept:
		return
	case old == nil && r.count == 0 && r.by == c.self: // it watches only
		return
	case old != nil && r.by == (link.ID{}):
		return // what is known here is as good
	case old == nil:
		old = &record{node: r.node}
		k.records[r.node] = old
	case r.version < old.version, r.version == old.version && r.count > 0 && old.count == 0 && old.by != (link.ID{}):
		return
	case r.version == old.version && r.count == old.count && old.by == c.self:
		return // this node knows it at first hand
	}
	before := old.count
	addr := old.addr
	*old = r
	if !r.addr.IsValid() {
		old.addr = addr
	}
	c.matters(g, old)
	c.changedRecord(g, old, before, pr)
	if r.by == (link.ID{}) {
		c.orphan(g, old)
	}
	if r.by == c.self {
		c.meetKeepers(g, pr)
		c.tellFellows(g, old, pr)
	}
}

// knowsBetter tells whether a node tells this one itself what others tell of it.
func (c *core) knowsBetter(g *group, r record) bool {
	if r.node == c.self {
		return g.keeper == c.self
	}
	p := c.peer(r.node)
	return r.by == (link.ID{}) && p != nil && g.kept.attached.has(p)
}

// tellFellows tells the other keepers of a record.
func (c *core) tellFellows(g *group, r *record, pr *promise) {
	for _, p := range g.kept.co {
		c.owe(p, ofReplica, g, pr).about(r.node)
	}
}

// matters notes whether a node's life is watched here because no other keeper does.
func (c *core) matters(g *group, r *record) {
	p := c.peer(r.node)
	switch {
	case p == nil:
	case r.count > 0 && r.by == p.id:
		p.hosts[g] = true
		c.watchSoon(p, p.heard.Add(pingSoon))
	default:
		delete(p.hosts, g)
	}
}

// changedRecord shows what has become of a record.
func (c *core) changedRecord(g *group, r *record, before uint32, pr *promise) {
	k := g.kept
	if r.count == 0 {
		c.lapse(&c.lapses.tombs, tombTime, g, r)
	}
	if r.count == before {
		return
	}
	i, found := slices.BinarySearchFunc(k.members, r.node, func(m *record, id link.ID) int { return m.node.Compare(id) })
	switch {
	case r.count == 0 && found:
		k.members = slices.Delete(k.members, i, i+1)
	case r.count > 0 && !found:
		k.members = slices.Insert(k.members, i, r)
	}
	for _, p := range k.attached {
		if w := k.watchers[p]; w != nil && w.begun {
			c.showChange(g, p, w, r.node, pr)
		}
	}
	if g.keeper == c.self {
		c.push(g)
	}
}

// bury takes a node for gone that nobody answers for. Whoever does again brings it back.
func (c *core) bury(g *group, r *record) {
	before := r.count
	r.count = 0
	c.changedRecord(g, r, before, nil)
}

// orphan keeps a record for a while that nobody answers for.
func (c *core) orphan(g *group, r *record) {
	r.by = link.ID{}
	if r.count > 0 {
		c.lapse(&c.lapses.orphans, orphanTime, g, r)
	}
}

// orphaned tells whether a record has just become an orphan, so that new keepers should know it.
func (c *core) orphaned(r *record) bool {
	return r.by == (link.ID{}) && r.count > 0 && r.lapses.Sub(c.now) > orphanTime-orphanNews
}

// expireRecords ends orphans that nobody has adopted, and forgets who left long ago.
func (c *core) expireRecords() {
	for l := &c.lapses.orphans; len(*l) > 0 && !c.now.Before((*l)[0].at); *l = (*l)[1:] {
		g, r := (*l)[0].g, (*l)[0].r
		if (*l)[0].holds() && r.by == (link.ID{}) && r.count > 0 {
			c.bury(g, r)
		}
	}
	for l := &c.lapses.tombs; len(*l) > 0 && !c.now.Before((*l)[0].at); *l = (*l)[1:] {
		g, r := (*l)[0].g, (*l)[0].r
		if (*l)[0].holds() && r.count == 0 {
			delete(g.kept.records, r.node)
		}
	}
}

// detach ends what a peer that is gone had to do with groups.
func (c *core) detach(p *peer) {
	for _, g := range p.tells.sorted() {
		k := g.kept
		k.attached.remove(p)
		k.unwatch(p)
		if r := k.records[p.id]; r != nil && r.by == c.self && r.count > 0 {
			c.takeRecord(g, record{node: r.node, addr: r.addr, version: r.version, by: c.self}, nil)
		}
	}
	for _, g := range p.keeps.sorted() {
		c.partFrom(g, p)
		if r := g.kept.records[p.id]; r != nil && r.by == (link.ID{}) && r.count > 0 { // presumably dead, not only without a keeper
			c.bury(g, r)
		}
	}
	told := p.told.sorted()
	clear(p.tells)
	clear(p.keeps)
	clear(p.hosts)
	clear(p.told)
	for _, g := range told {
		if g.keeper == p.id {
			g.keeper = link.ID{}
			c.seek(g)
		}
	}
}

// partFrom notes that a peer keeps a group no longer.
func (c *core) partFrom(g *group, p *peer) {
	k := g.kept
	k.co.remove(p)
	delete(p.keeps, g)
	delete(p.hosts, g)
	for _, r := range k.members {
		if r.by == p.id {
			c.orphan(g, r)
		}
	}
	k.heardFrom(p)
}

// entries is the view of a watcher as it would be told.
func (k *kept) entries(id link.ID) []entry {
	var list []entry
	for _, r := range k.around(id) {
		list = append(list, entry{r.node, r.addr, r.count})
	}
	return list
}
