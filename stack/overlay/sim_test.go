package overlay

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

var seedFlag = flag.Uint64("seed", 0, "replay simulations with this seed alone")

// simulate runs a story once per seed. A failure prints how to replay it.
func simulate(t *testing.T, seeds int, story func(s *sim)) {
	first, last := uint64(1), uint64(seeds)
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("replay: go test ./stack/overlay -run '%s' -seed %d", t.Name(), seed)
				}
			})
			story(&sim{
				t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_000_000, 0),
				maxLatency: 5 * time.Millisecond, cut: func(a, b *simNode) bool { return false },
			})
		})
	}
}

// A sim connects cores in virtual time.
type sim struct {
	t          *testing.T
	rng        *rand.Rand
	now        time.Time
	queue      simQueue
	posted     int
	nodes      []*simNode // killed ones too
	maxLatency time.Duration
	cut        func(a, b *simNode) bool // a hears nothing of b, nor b of a
	lostAt     []simLoss
}

type simLoss struct {
	at      time.Time
	by, who *simNode
}

// A simNode is a core with what the shell would keep.
type simNode struct {
	sim       *sim
	id        link.ID
	addr      netip.AddrPort
	core      *core
	alive     bool
	stalled   time.Time // handles nothing until then
	backlog   []func()  // for when it is awake again
	ends      map[uint64]*simEnd
	lastLink  uint64
	lastBatch uint64
	views     map[Key][]Member
	history   map[Key][]uint32 // numbers announced
	announced map[uint64]simAnnouncement
	settled   bool
}

type simAnnouncement struct {
	key  Key
	nth  int                // index into history
	whom map[link.ID]uint64 // peers and their links at that time
	at   time.Time
}

// A simEnd is a node's end of a link. Messages that meet a partition are held,
// as a reliable stream does.
type simEnd struct {
	node   *simNode
	number uint64
	other  *simEnd
	open   bool
	last   time.Time // arrival of what was sent last
	held   []func(*simEnd)
}

type simEvent struct {
	at  time.Time
	nth int
	to  *simNode
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int      { return len(q) }
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q simQueue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].nth, q[j].nth)) < 0
}
func (q *simQueue) Push(x any) { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (s *sim) post(at time.Time, to *simNode, do func()) {
	s.posted++
	heap.Push(&s.queue, simEvent{at, s.posted, to, do})
}

func (s *sim) latency() time.Duration {
	return 100*time.Microsecond + time.Duration(s.rng.Int64N(int64(s.maxLatency)))
}

// run lets d pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		switch {
		case !e.to.alive:
		case s.now.Before(e.to.stalled):
			e.to.backlog = append(e.to.backlog, e.do)
		default:
			for _, do := range append(e.to.backlog, e.do) {
				e.to.backlog = nil
				do()
			}
		}
	}
	s.now = end
}

// until lets time pass until ok, at most limit, and tells how long it took.
func (s *sim) until(limit time.Duration, what string, ok func() bool) time.Duration {
	began := s.now
	for !ok() {
		require.Less(s.t, s.now.Sub(began), limit, what)
		s.run(10 * time.Millisecond)
	}
	return s.now.Sub(began)
}

// start adds a node at host. Nodes watch the given groups.
func (s *sim) start(host int, watched ...Key) *simNode {
	n := &simNode{
		sim: s, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(host)}), 4000), alive: true,
		ends: map[uint64]*simEnd{}, views: map[Key][]Member{}, history: map[Key][]uint32{}, announced: map[uint64]simAnnouncement{},
	}
	for i := range 4 {
		binary.BigEndian.PutUint64(n.id[8*i:], s.rng.Uint64())
	}
	n.core = newCore(n.id)
	s.nodes = append(s.nodes, n)
	for _, k := range watched {
		n.step(watch{k})
	}
	s.post(s.now.Add(time.Duration(s.rng.Int64N(int64(tickEvery)))), n, n.tick)
	return n
}

// mesh starts count nodes of which each is told of the one before it.
func (s *sim) mesh(count int, watched ...Key) []*simNode {
	var nodes []*simNode
	for i := range count {
		n := s.start(i+1, watched...)
		if i > 0 {
			n.offer(nodes[i-1])
			nodes[i-1].offer(n)
		}
		nodes = append(nodes, n)
	}
	s.until(3*time.Second, "full mesh", s.converged)
	return nodes
}

func (s *sim) alive() []*simNode {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *simNode) bool { return !n.alive })
}

func (s *sim) node(id link.ID) *simNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.id == id })]
}

// converged tells whether all live nodes are linked to each other alone, and
// every view shows what the others host.
func (s *sim) converged() bool {
	for _, n := range s.alive() {
		if len(n.core.peers) != len(s.alive())-1 {
			return false
		}
		for key := range n.core.watched {
			if !maps.Equal(n.view(key), s.hosted(key, n)) {
				return false
			}
		}
	}
	return true
}

// hosted is what a view of the group at n should show.
func (s *sim) hosted(key Key, n *simNode) map[link.ID]int {
	want := map[link.ID]int{}
	for _, o := range s.alive() {
		if h := o.history[key]; o != n && len(h) > 0 && h[len(h)-1] > 0 && !o.core.leaving {
			want[o.id] = int(h[len(h)-1])
		}
	}
	return want
}

// kill ends a node without a word.
func (n *simNode) kill() { n.alive = false }

func (n *simNode) stall(d time.Duration) {
	if until := n.sim.now.Add(d); until.After(n.stalled) {
		n.stalled = until
		n.sim.post(until, n, func() {}) // wakes it
	}
}

func (n *simNode) offer(o *simNode) { n.step(offered{o.id, o.addr}) }

func (n *simNode) tick() {
	n.step(tick{})
	n.sim.post(n.sim.now.Add(tickEvery), n, n.tick)
}

func (n *simNode) view(key Key) map[link.ID]int {
	view := map[link.ID]int{}
	for _, m := range n.views[key] {
		view[m.Node] = m.Count
	}
	return view
}

// announce returns the batch, which is in announced until it is confirmed.
func (n *simNode) announce(key Key, count uint32) uint64 {
	n.lastBatch++
	n.history[key] = append(n.history[key], count)
	a := simAnnouncement{key, len(n.history[key]) - 1, map[link.ID]uint64{}, n.sim.now}
	for _, p := range n.core.peers {
		a.whom[p.id] = p.link
	}
	n.announced[n.lastBatch] = a
	n.step(announce{n.lastBatch, map[Group]uint32{hosted[key]: count}})
	return n.lastBatch
}

func (n *simNode) step(e event) {
	for _, e := range n.core.step(n.sim.now, e) {
		switch e := e.(type) {
		case dial:
			n.sim.dial(n, e)
		case sendControl:
			n.ends[e.link].send(func(at *simEnd) { at.node.step(control{at.number, e.msg}) })
		case closeLink:
			require.Equal(n.sim.t, closeSilent, e.why, "no core breaks the protocol")
			n.ends[e.link].close()
		case pushView:
			n.views[e.group] = e.members
		case lost:
			n.checkLost(e)
		case confirmed:
			n.checkConfirmed(e)
		case settled:
			n.settled = true
		}
	}
}

func (n *simNode) checkLost(e lost) {
	for key := range n.views {
		require.NotContains(n.sim.t, n.view(key), e.peer, "views without a peer come before the news that it is lost")
	}
	n.sim.lostAt = append(n.sim.lostAt, simLoss{n.sim.now, n, n.sim.node(e.peer)})
}

// checkConfirmed checks that whoever was a peer when it was announced, and is
// one still, shows it or something newer.
func (n *simNode) checkConfirmed(e confirmed) {
	a := n.announced[e.batch]
	delete(n.announced, e.batch)
	for id, number := range a.whom {
		end := n.ends[number]
		if o := n.sim.node(id); o.alive && end.open && end.other.open && !n.core.leaving && o.core.watched[a.key] {
			shown := uint32(o.view(a.key)[n.id])
			require.Contains(n.sim.t, n.history[a.key][a.nth:], shown, "confirmed, but not in the view of a peer")
		}
	}
}

func (s *sim) dial(from *simNode, e dial) {
	fail := func(after time.Duration) {
		s.post(s.now.Add(after), from, func() { from.step(dialled{e.id, false}) })
	}
	i := slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.alive && n.addr == e.addr })
	if i < 0 || s.cut(from, s.nodes[i]) {
		fail(time.Second)
		return
	}
	to := s.nodes[i]
	s.post(s.now.Add(s.latency()), to, func() {
		if to.id != e.id || from.linkedTo(to) || to.linkedTo(from) {
			fail(s.latency())
			return
		}
		a, b := from.newEnd(), to.newEnd()
		a.other, b.other = b, a
		b.send(func(a *simEnd) {
			from.step(linkUp{a.number, to.id, to.addr})
			from.step(dialled{e.id, true})
		})
		to.step(linkUp{b.number, from.id, from.addr})
	})
}

func (n *simNode) newEnd() *simEnd {
	n.lastLink++
	end := &simEnd{node: n, number: n.lastLink, open: true}
	n.ends[end.number] = end
	return end
}

func (n *simNode) linkedTo(o *simNode) bool {
	for _, e := range n.ends {
		if e.open && e.other.node == o {
			return true
		}
	}
	return false
}

// send delivers to the other end, in order.
func (e *simEnd) send(deliver func(at *simEnd)) {
	s := e.node.sim
	if !e.open {
		return
	}
	if len(e.held) > 0 || s.cut(e.node, e.other.node) {
		e.held = append(e.held, deliver)
		return
	}
	if at := s.now.Add(s.latency()); at.After(e.last) {
		e.last = at
	}
	s.post(e.last, e.other.node, func() {
		if e.other.open {
			deliver(e.other)
		}
	})
}

// close ends the link at this end at once and at the other by a message.
func (e *simEnd) close() {
	e.send(func(at *simEnd) {
		at.open = false
		at.node.step(linkDown{at.number})
	})
	e.open = false
}

// heal ends all partitions: held messages go on their way.
func (s *sim) heal() {
	s.cut = func(a, b *simNode) bool { return false }
	for _, n := range s.nodes {
		for _, number := range slices.Sorted(maps.Keys(n.ends)) {
			e := n.ends[number]
			held, open := e.held, e.open
			e.held, e.open = nil, true
			for _, deliver := range held {
				e.send(deliver)
			}
			e.open = open
		}
	}
}

// breakLink ends a random link at both ends, as a reset would.
func (s *sim) breakLink() {
	n := s.alive()[s.rng.IntN(len(s.alive()))]
	for _, number := range slices.Sorted(maps.Keys(n.ends)) {
		e := n.ends[number]
		if !e.open || !e.other.open || !e.other.node.alive || s.rng.IntN(3) > 0 {
			continue
		}
		for _, end := range []*simEnd{e, e.other} {
			end.open = false
			s.post(s.now.Add(s.latency()), end.node, func() { end.node.step(linkDown{end.number}) })
		}
		return
	}
}
