package overlay

import (
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

var (
	seedFlag  = flag.Uint64("seed", 0, "replay simulations with this seed alone")
	seedsFlag = flag.Int("seeds", 0, "run simulations with so many seeds each")
)

// simulate runs a story once per seed. A failure prints how to replay it.
func simulate(t *testing.T, seeds int, story func(s *sim)) {
	first, last := uint64(1), uint64(seeds)
	if raceDetector { // one goroutine runs all of it: there is nothing to detect
		last = 1
	}
	if *seedsFlag != 0 {
		last = uint64(*seedsFlag)
	}
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
			story(newSim(t, seed))
		})
	}
}

// A sim connects cores in virtual time.
type sim struct {
	t         testing.TB
	rng       *rand.Rand
	now       time.Time
	queue     simQueue
	posted    int
	nodes     []*simNode // killed ones too
	byID      map[link.ID]*simNode
	byAddr    map[netip.AddrPort]*simNode
	hosting   map[Key][]*simNode // who ever announced members
	latency   func(a, b *simNode) time.Duration
	cut       func(a, b *simNode) bool // a hears nothing of b, nor b of a
	holding   []*simEnd                // that hold messages back
	lostAt    []simLoss
	alarms    []simLoss // peers that were given up as silent
	onView    func(n *simNode, key Key)
	loss      float64 // share of messages that have to be sent again, and come resend later
	dials     int
	dialFails int
	stable    bool // nobody comes or goes: confirmations are checked
}

type simLoss struct {
	at      time.Time
	by, who *simNode
}

func newSim(t testing.TB, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_000_000, 0),
		byID: map[link.ID]*simNode{}, byAddr: map[netip.AddrPort]*simNode{}, hosting: map[Key][]*simNode{},
		cut: func(a, b *simNode) bool { return false },
	}
	s.latency = func(_, _ *simNode) time.Duration {
		return 100*time.Microsecond + time.Duration(s.rng.Int64N(int64(5*time.Millisecond)))
	}
	return s
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
	linked    map[*simNode]*simEnd
	lastLink  uint64
	lastBatch uint64
	views     map[Key][]Member
	viewed    map[Key]time.Time
	whole     map[Key]bool
	history   map[Key][]uint32 // numbers announced
	announced map[uint64]simAnnouncement
	reaching  map[link.ID][]func(bool)
	settled   bool
	idling    bool // it is told that a link was given up
	began     time.Time
	sent      int // bytes of control messages, with what carries them
	messages  int
}

type simAnnouncement struct {
	key Key
	nth int // index into history
	at  time.Time
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
	at  int64 // nanoseconds
	nth int
	to  *simNode // nil: the world
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int      { return len(q) }
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].nth < q[j].nth
}
func (q *simQueue) Push(x any) { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (s *sim) post(at time.Time, to *simNode, do func()) {
	s.posted++
	heap.Push(&s.queue, simEvent{at.UnixNano(), s.posted, to, do})
}

// run lets d pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for last := end.UnixNano(); len(s.queue) > 0 && s.queue[0].at <= last; {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = time.Unix(0, e.at)
		switch {
		case e.to == nil:
			e.do()
		case !e.to.alive:
		case s.now.Before(e.to.stalled):
			e.to.backlog = append(e.to.backlog, e.do)
		case len(e.to.backlog) > 0:
			backlog := append(e.to.backlog, e.do)
			e.to.backlog = nil
			for _, do := range backlog {
				do()
			}
		default:
			e.do()
		}
	}
	s.now = end
}

// until lets time pass until ok, at most limit, and tells how long it took.
func (s *sim) until(limit time.Duration, what string, ok func() bool) time.Duration {
	s.t.Helper()
	began := s.now
	for !ok() {
		require.Less(s.t, s.now.Sub(began), limit, what)
		s.run(10 * time.Millisecond)
	}
	return s.now.Sub(began)
}

// start adds a node. It watches the given groups.
func (s *sim) start(watched ...Key) *simNode {
	host := len(s.nodes) + 1
	n := &simNode{
		sim: s, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(host >> 16), byte(host >> 8), byte(host)}), 4000), alive: true,
		ends: map[uint64]*simEnd{}, linked: map[*simNode]*simEnd{}, views: map[Key][]Member{}, viewed: map[Key]time.Time{}, whole: map[Key]bool{},
		history: map[Key][]uint32{}, announced: map[uint64]simAnnouncement{}, reaching: map[link.ID][]func(bool){}, began: s.now,
	}
	for i := range 4 {
		binary.BigEndian.PutUint64(n.id[8*i:], s.rng.Uint64())
	}
	n.core = newCore(n.id)
	s.nodes = append(s.nodes, n)
	s.byID[n.id], s.byAddr[n.addr] = n, n
	for _, k := range watched {
		n.step(watch{hosted[k]})
	}
	s.post(s.now.Add(time.Duration(s.rng.Int64N(int64(tickEvery)))), n, n.tick)
	return n
}

// mesh starts count nodes of which each is told of the one before it.
func (s *sim) mesh(count int, watched ...Key) []*simNode {
	s.t.Helper()
	var nodes []*simNode
	for i := range count {
		n := s.start(watched...)
		if i > 0 {
			n.offer(nodes[i-1])
			nodes[i-1].offer(n)
		}
		nodes = append(nodes, n)
	}
	s.until(5*time.Second, "full mesh", s.converged)
	s.run(200 * time.Millisecond)
	s.stable = true
	return nodes
}

func (s *sim) alive() []*simNode {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *simNode) bool { return !n.alive })
}

// converged tells whether all live nodes are linked, to each other alone where they are
// few, and every view shows what the others host.
func (s *sim) converged() bool {
	alive := s.alive()
	for _, n := range alive {
		if len(n.core.peers) < min(len(alive)-1, closePeers) {
			return false
		}
		if slices.ContainsFunc(n.core.peers, func(p *peer) bool { return !s.byID[p.id].alive }) {
			return false
		}
	}
	return s.agreed(alive)
}

// agreed tells whether every view shows what the others host.
func (s *sim) agreed(nodes []*simNode) bool {
	wants := map[Key]map[link.ID]int{}
	for _, o := range nodes {
		for key, h := range o.history {
			if wants[key] == nil {
				wants[key] = map[link.ID]int{}
			}
			if h[len(h)-1] > 0 && !o.core.leaving {
				wants[key][o.id] = int(h[len(h)-1])
			}
		}
	}
	for _, n := range nodes {
		for key, g := range n.core.groups {
			if !g.watch {
				continue
			}
			if n.viewed[key].IsZero() {
				return false
			}
			want := wants[key]
			own, member := want[n.id]
			if member {
				delete(want, n.id)
			}
			same := maps.Equal(n.view(key), want)
			if !n.whole[key] { // part of it: nothing that is not
				same = len(want) > maxWhole-1
				for id, count := range n.view(key) {
					same = same && want[id] == count
				}
			}
			if member {
				want[n.id] = own
			}
			if !same {
				return false
			}
		}
	}
	return true
}

// kill ends a node without a word. Whoever sends to it learns nothing.
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
	view := make(map[link.ID]int, len(n.views[key]))
	for _, m := range n.views[key] {
		view[m.Node] = m.Count
	}
	return view
}

// announce returns the batch, which is in announced until it is confirmed.
func (n *simNode) announce(g Group, count uint32) uint64 {
	key := g.Key()
	n.lastBatch++
	if n.history[key] == nil {
		n.sim.hosting[key] = append(n.sim.hosting[key], n)
	}
	n.history[key] = append(n.history[key], count)
	n.announced[n.lastBatch] = simAnnouncement{key, len(n.history[key]) - 1, n.sim.now}
	n.step(announce{n.lastBatch, map[Group]uint32{g: count}})
	return n.lastBatch
}

// reach links to a node as sending to it would; then learns whether there is a link.
func (n *simNode) reach(id link.ID, then func(ok bool)) {
	n.reaching[id] = append(n.reaching[id], then)
	if len(n.reaching[id]) == 1 {
		n.step(reach{id})
	}
}

func (n *simNode) step(e event) {
	for _, e := range n.core.step(n.sim.now, e) {
		n.perform(e)
	}
}

func (n *simNode) perform(e effect) {
	switch e := e.(type) {
	case dial:
		n.sim.dial(n, e)
	case sendControl:
		n.sendControl(e)
	case closeLink:
		require.Equal(n.sim.t, closeSilent, e.why, "no core breaks the protocol")
		if end := n.ends[e.link]; end != nil {
			n.sim.alarms = append(n.sim.alarms, simLoss{n.sim.now, n, end.other.node})
			end.close(false)
		}
	case offerLink:
		n.sendControl(sendControl{e.link, release{}.appendTo(nil)})
	case giveUpLink:
		end := n.ends[e.link]
		if end == nil {
			return
		}
		end.close(true)
		n.sim.post(n.sim.now, n, func() { n.linkDown(end, true) })
	case reached:
		waiting := n.reaching[e.id]
		delete(n.reaching, e.id)
		for _, then := range waiting {
			then(e.ok)
		}
	case pushView:
		n.views[e.group], n.whole[e.group] = e.members, e.whole
		if n.viewed[e.group].IsZero() {
			n.viewed[e.group] = n.sim.now
		}
		if n.sim.onView != nil {
			n.sim.onView(n, e.group)
		}
	case lost:
		n.checkLost(e)
	case confirmed:
		n.checkConfirmed(e)
	case settled:
		n.settled = true
	}
}

func (n *simNode) checkLost(e lost) {
	if who := n.sim.byID[e.peer]; !who.alive && !n.idling { // who died behind a link that it gave up is not known to be dead
		for key := range n.views {
			require.NotContains(n.sim.t, n.view(key), e.peer, "views without a peer come before the news that it is lost")
		}
	}
	n.sim.lostAt = append(n.sim.lostAt, simLoss{n.sim.now, n, n.sim.byID[e.peer]})
}

// checkConfirmed checks that whoever watches shows it or something newer.
func (n *simNode) checkConfirmed(e confirmed) {
	a := n.announced[e.batch]
	delete(n.announced, e.batch)
	if !n.sim.stable || n.core.leaving {
		return
	}
	for _, o := range n.sim.alive() {
		if _, watches := o.views[a.key]; watches && o != n && n.linked[o] != nil && o.whole[a.key] {
			shown := uint32(o.view(a.key)[n.id])
			require.Contains(n.sim.t, n.history[a.key][a.nth:], shown, "confirmed, but not in a view")
		}
	}
}
