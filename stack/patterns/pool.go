package patterns

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	fewMembers = 8       // up to which all are compared, which is fairer than two
	maxTries   = 16      // members that one request is offered to
	stride     = 1 << 20 // that a pass grows by for a request to a lone member
	maxLag     = 8 * stride
	refusedLag = 16 * stride
	noise      = 2  // latencies within this factor count as equal
	maxRatio   = 64 // a slower member is still tried once in so many requests
)

// A party is who asks for requests and runs them: a session of this node, or
// another node. Guarded by the node's mutex, but for sink, node and flow.
type party struct {
	sink    Sink              // nil: another node
	node    link.ID           // of another node
	flow    uint32            // of a session: its number
	asked   map[uint64]*entry // by the id that the party gave
	running chain             // entries offered to it or running there
	closed  bool              // the session is gone
	members int               // of groups, that are at this other node
	seen    seen              // of another node
	used    time.Duration     // when another node last asked
	tunnels map[*Tunnel]bool  // the session's ends of tunnels
}

// is tells whether p and q are the same, also when the link to a node was lost
// and is back.
func (p *party) is(q *party) bool {
	return p == q || p.sink == nil && q.sink == nil && p.node == q.node
}

// A member is where a group's requests can go: one session, or a node with
// count members.
type member struct {
	group    *group
	at       *party
	count    int
	inflight int           // requests of this node's table that are there
	latency  time.Duration // smoothed; 0: not known
	pass     uint64        // grows with each request by what it is expected to cost
}

// observe takes a new latency into account.
func (m *member) observe(latency time.Duration) {
	if m.latency == 0 {
		m.latency = latency
	}
	m.latency = max(1, m.latency+(latency-m.latency)/8)
}

// slower is by what factor m is slower than other, beyond noise.
func (m *member) slower(other *member) uint64 {
	if other.latency == 0 || m.latency <= noise*other.latency {
		return 1
	}
	return uint64(min(m.latency/other.latency, maxRatio))
}

// busier compares the loads of two members: requests in flight × latency, per
// member of the node.
func (m *member) busier(other *member) int {
	a := uint64(m.inflight) * m.slower(other) * uint64(other.count)
	b := uint64(other.inflight) * other.slower(m) * uint64(m.count)
	return cmp.Compare(a, b)
}

// crowded compares the requests in flight at two members, per member of the node.
// Up to a half more than at the other counts as equal: it is what a member gets
// that is a little slower, and would make shares uneven if it counted.
func (m *member) crowded(other *member) int {
	a, b := m.inflight*other.count, other.inflight*m.count
	switch {
	case b > a+a/2:
		return -1
	case a > b+b/2:
		return 1
	}
	return 0
}

// before is whether m gets the next request rather than other.
func (m *member) before(other *member) bool {
	order := m.crowded(other)
	return order < 0 || order == 0 && m.pass < other.pass
}

// A pool is the members of a group on one side: the sessions here, or the
// other nodes. Of two members at random, in proportion to their count, the less
// crowded gets a request; of a few members, the least crowded. Those that are about equally
// crowded take turns: the one whose pass is less is next, and a pass grows with the
// latency, so that shares are even, and a slower member's is less in proportion.
type pool struct {
	members []*member
	sums    []int  // of the counts up to each member
	clock   uint64 // the pass of the last one chosen: where new members begin
}

func (p *pool) add(m *member) {
	m.pass = p.clock
	p.members = append(p.members, m)
	p.weigh()
}

func (p *pool) remove(m *member) {
	if i := slices.Index(p.members, m); i >= 0 {
		p.members = slices.Delete(p.members, i, i+1)
		p.weigh()
	}
}

// weigh prepares for drawing, after members or counts have changed.
func (p *pool) weigh() {
	p.sums = p.sums[:0]
	sum := 0
	for _, m := range p.members {
		sum += m.count
		p.sums = append(p.sums, sum)
	}
}

// pick yields the member that is next, and one to compare its latency with;
// nil where there is none. Members among tried are left out.
func (p *pool) pick(rng *rand.Rand, tried []*party) (best, other *member) {
	if len(p.members) <= fewMembers {
		return p.pickOfAll(tried)
	}
	best = p.draw(rng, tried, nil)
	if best == nil {
		return nil, nil
	}
	if other = p.draw(rng, tried, best); other != nil && other.before(best) {
		best, other = other, best
	}
	return best, other
}

// pickOfAll is pick where looking at all costs no more than drawing two.
func (p *pool) pickOfAll(tried []*party) (best, fastest *member) {
	for _, m := range p.members {
		if len(tried) > 0 && slices.ContainsFunc(tried, m.at.is) {
			continue
		}
		if best == nil || m.before(best) {
			best = m
		}
		if fastest == nil || m.latency > 0 && m.latency < fastest.latency {
			fastest = m
		}
	}
	return best, fastest
}

// draw yields a member at random that is neither among tried nor except.
func (p *pool) draw(rng *rand.Rand, tried []*party, except *member) *member {
	n := len(p.members)
	if n == 0 {
		return nil
	}
	fits := func(m *member) bool { return m != except && !slices.ContainsFunc(tried, m.at.is) }
	const luck = 4 // draws, before looking at one after the other
	for range min(luck, n) {
		i := 0
		if sum := p.sums[n-1]; sum == n {
			i = rng.IntN(n)
		} else {
			i = sort.SearchInts(p.sums, 1+rng.IntN(sum))
		}
		if m := p.members[i]; fits(m) {
			return m
		}
	}
	start := rng.IntN(n)
	for i := range n {
		if m := p.members[(start+i)%n]; fits(m) {
			return m
		}
	}
	return nil
}

// charge counts a request to m, which was chosen over other (nil: unopposed).
// One that was left out for long gets a limited advantage only.
func (p *pool) charge(m, other *member) {
	cost := uint64(stride)
	if other != nil {
		cost *= m.slower(other)
	}
	if p.clock > maxLag {
		m.pass = max(m.pass, p.clock-maxLag)
	}
	p.clock = max(p.clock, m.pass)
	m.pass += cost / uint64(m.count)
}
