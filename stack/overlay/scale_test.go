package overlay

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

var (
	nodesFlag  = flag.Int("nodes", 0, "size of the network of TestScale, TestStallsOfAQuarter and TestPartitionOfHalf")
	reportFlag = flag.String("report", "", "docs folder that TestScaleReport writes to")
	sizesFlag  = flag.String("sizes", "10,32,64,128,300,1000", "sizes of networks that TestScaleReport measures")
)

const (
	scaleGroups = 500
	memberships = 4 // groups that each node hosts a member of and watches
)

// A fleet is a large network with what is measured of it.
type fleet struct {
	*sim
	groups  []Group
	waiting map[*simNode]map[Key][]*sighting
}

// A sighting is awaited: that a watcher's view shows a member, or does no longer.
type sighting struct {
	key   Key
	who   *simNode
	there bool
	since time.Time
	took  *[]time.Duration
}

func newFleet(t testing.TB, seed uint64) *fleet {
	f := &fleet{sim: newSim(t, seed), waiting: map[*simNode]map[Key][]*sighting{}}
	f.latency = func(_, _ *simNode) time.Duration { return time.Millisecond }
	f.onView = f.saw
	for i := range scaleGroups {
		f.groups = append(f.groups, Group{KindCluster, fmt.Sprint("group", i)})
	}
	return f
}

// grow adds nodes, some at a time, each of which is told of one that was there before.
func (f *fleet) grow(to int) {
	for len(f.nodes) < to {
		for range min(max(4, len(f.nodes)/10), to-len(f.nodes)) {
			f.join()
		}
		f.run(200 * time.Millisecond)
	}
}

func (f *fleet) join() *simNode {
	var known *simNode
	for known == nil && len(f.nodes) > 0 {
		if n := f.nodes[f.rng.IntN(len(f.nodes))]; n.alive {
			known = n
		}
	}
	n := f.start()
	if known != nil {
		n.offer(known)
	}
	for _, i := range f.rng.Perm(scaleGroups)[:memberships] {
		n.step(watch{f.groups[i]})
		n.announce(f.groups[i], 1)
	}
	return n
}

// random is a node that lives.
func (f *fleet) random() *simNode {
	for {
		if n := f.nodes[f.rng.IntN(len(f.nodes))]; n.alive {
			return n
		}
	}
}

// own is one of the groups that a node is in.
func (f *fleet) own(n *simNode) Group {
	keys := make([]Key, 0, memberships)
	for key, h := range n.history {
		if h[len(h)-1] > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return link.ID(a).Compare(link.ID(b)) })
	return n.core.groups[keys[f.rng.IntN(len(keys))]].Group
}

func (n *simNode) shows(key Key, who *simNode) bool {
	_, ok := slices.BinarySearchFunc(n.views[key], who.id, func(m Member, id link.ID) int { return m.Node.Compare(id) })
	return ok
}

// await notes how long it takes until all watchers of a group show a member, or do no
// longer. Those that do so already are not counted.
func (f *fleet) await(key Key, who *simNode, there bool, took *[]time.Duration) {
	for _, n := range f.nodes {
		if !n.alive || n == who || n.views[key] == nil || n.shows(key, who) == there {
			continue
		}
		if f.waiting[n] == nil {
			f.waiting[n] = map[Key][]*sighting{}
		}
		f.waiting[n][key] = append(f.waiting[n][key], &sighting{key, who, there, f.now, took})
	}
}

func (f *fleet) saw(n *simNode, key Key) {
	if list := f.waiting[n][key]; len(list) > 0 {
		f.waiting[n][key] = slices.DeleteFunc(list, func(x *sighting) bool {
			if n.shows(key, x.who) != x.there {
				return false
			}
			*x.took = append(*x.took, f.now.Sub(x.since))
			return true
		})
	}
}

// missing is how many sightings did not come about, of watchers that live.
func (f *fleet) missing() (count int) {
	for n, lists := range f.waiting {
		for _, list := range lists {
			if n.alive {
				count += len(list)
			}
		}
	}
	clear(f.waiting)
	return count
}

// requests are counted by how they went.
type requests struct {
	sent   int
	direct int // reached the first member that was tried
	lost   int // went to one that was dead, which nobody knew yet
	failed int // reached none, though one lives, or knew of none
}

// request sends a request of a node to a group that it watches, as the layer above does: to a
// member of its view, and to another one if that cannot be reached.
func (f *fleet) request(n *simNode, key Key, r *requests) {
	others := slices.ContainsFunc(f.hosting[key], func(o *simNode) bool {
		h := o.history[key]
		return o.alive && o != n && h[len(h)-1] > 0 && f.now.Sub(o.began) > 5*time.Second
	})
	if !others {
		return // there is nobody to serve it
	}
	r.sent++
	f.attempt(n, key, slices.Clone(n.views[key]), true, r)
}

func (f *fleet) attempt(n *simNode, key Key, members []Member, first bool, r *requests) {
	if len(members) == 0 {
		r.failed++
		return
	}
	i := f.rng.IntN(len(members))
	n.reach(members[i].Node, func(ok bool) {
		switch {
		case ok && !n.sim.byID[members[i].Node].alive:
			r.lost++
		case ok && first:
			r.direct++
		case !ok:
			f.attempt(n, key, slices.Delete(members, i, i+1), false, r)
		}
	})
}

// depths are how deep the lookups of keys go from nodes that know nothing of them.
func (f *fleet) depths(count int) (list []int) {
	for range count {
		n, key := f.random(), f.groups[f.rng.IntN(scaleGroups)].Key()
		if n.core.groups[key] == nil {
			n.step(do(func(c *core) { c.lookup(link.ID(key), func(_ *core, l *lookup) { list = append(list, l.depth) }) }))
		}
	}
	f.run(5 * time.Second)
	return list
}

// rates are the bytes a second that nodes send while d passes.
func (f *fleet) rates(d time.Duration, pass func()) (list []int) {
	before := map[*simNode]int{}
	for _, n := range f.nodes {
		before[n] = n.sent
	}
	pass()
	for n, sent := range before {
		if n.alive {
			list = append(list, int(float64(n.sent-sent)/d.Seconds()))
		}
	}
	return list
}

// figures are what is measured of a network.
type figures struct {
	Nodes      int
	Links      int     // median
	LinksMost  int     // 99 of 100
	Table      int     // contacts, the most
	Idle       int     // bytes/s, median
	IdleMost   int     // 99 of 100
	Churn      int     // bytes/s, median
	Depth      int     // of lookups, median
	DepthMost  int     // the most
	Joined     float64 // ms until a new node has all its views, 99 of 100
	Change     float64 // ms until watchers see a member come or go, 99 of 100
	Dead       float64 // ms until views are without a dead node, median
	DeadMost   float64 // 99 of 100
	Missed     int     // of these that had not come about after 5 s
	Alarms     int     // false ones, 10 % of the nodes stalled 400 ms, five times
	Requests   int     // under churn
	Direct     float64 // % that reached the first member that they tried
	Lost       int     // that went to a member that had just died
	Failed     int
	Memory     int // KB a node, what the simulator holds included
	NotSettled int // views that are wrong after growth and a minute
}

func measure(t testing.TB, nodes int) figures {
	began := time.Now()
	before := heapInUse()
	f := newFleet(t, 1)
	x := figures{Nodes: nodes}
	step := func(what string) {
		t.Logf("%d nodes: %s after %v, virtual %v", nodes, what, time.Since(began), f.now.Unix()-1_000_000)
	}
	f.grow(nodes)
	step("grown")
	f.run(50 * time.Second)
	step("settled")
	f.atRest(&x)
	x.Memory = int(heapInUse()-before) / nodes / 1024
	step("measured at rest")
	f.changes(&x)
	f.deaths(&x)
	f.stalls(&x)
	step("measured changes, deaths and stalls")
	f.underChurn(&x)
	step("measured churn")
	return x
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (f *fleet) atRest(x *figures) {
	idle := f.rates(10*time.Second, func() { f.run(10 * time.Second) })
	x.Idle, x.IdleMost = median(idle), quantile(idle, 0.99)
	var links []int
	for _, n := range f.nodes {
		links = append(links, len(n.core.peers))
		x.Table = max(x.Table, len(n.core.table))
	}
	x.Links, x.LinksMost = median(links), quantile(links, 0.99)
	depths := f.depths(min(200, 4*len(f.nodes)))
	x.Depth, x.DepthMost = median(depths), quantile(depths, 1)
	x.NotSettled = f.wrongViews()
}

// wrongViews counts the views that do not show who hosts members.
func (f *fleet) wrongViews() (wrong int) {
	for _, n := range f.alive() {
		for key := range n.views {
			want := 0
			for _, o := range f.hosting[key] {
				if h := o.history[key]; o.alive && o != n && h[len(h)-1] > 0 {
					want++
					if !n.shows(key, o) {
						want += 1 << 20
					}
				}
			}
			if len(n.views[key]) != want {
				wrong++
			}
		}
	}
	return wrong
}

// changes has members come and go.
func (f *fleet) changes(x *figures) {
	var took, joined []time.Duration
	for range 20 {
		n := f.random()
		g := f.own(n)
		n.announce(g, 0)
		f.await(g.Key(), n, false, &took)
		f.run(300 * time.Millisecond)
		n.announce(g, 1)
		f.await(g.Key(), n, true, &took)
		f.run(200 * time.Millisecond)
	}
	x.Missed += f.missing()
	for range 5 {
		n := f.join()
		for _, i := range f.rng.Perm(scaleGroups)[:1] { // who was there before sees it come
			f.await(f.groups[i].Key(), n, true, &took)
		}
		clear(f.waiting)
		f.until(20*time.Second, "a new node has its views", func() bool { return len(n.viewed) == memberships })
		joined = append(joined, f.now.Sub(n.began))
	}
	x.Change, x.Joined = ms(quantile(took, 0.99)), ms(quantile(joined, 0.99))
}

// deaths kills some nodes.
func (f *fleet) deaths(x *figures) {
	f.run(time.Second)
	var took []time.Duration
	for range min(20, max(2, len(f.nodes)/20)) {
		n := f.random()
		n.kill()
		for key := range n.history {
			f.await(key, n, false, &took)
		}
		f.run(time.Second + time.Duration(f.rng.Int64N(int64(100*time.Millisecond))))
	}
	f.run(5 * time.Second)
	x.Dead, x.DeadMost = ms(median64(took)), ms(quantile(took, 0.99))
	x.Missed += f.missing()
}

func median64(list []time.Duration) time.Duration { return quantile(list, 0.5) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()/100) / 10 }

// stalls stalls a tenth of the nodes at a time.
func (f *fleet) stalls(x *figures) {
	f.alarms = nil
	for range 5 {
		for range max(1, len(f.nodes)/10) {
			f.random().stall(400 * time.Millisecond)
		}
		f.run(1500*time.Millisecond + time.Duration(f.rng.Int64N(int64(500*time.Millisecond))))
	}
	x.Alarms = f.falseAlarms()
}

func (f *fleet) falseAlarms() (count int) {
	for _, a := range f.alarms {
		if a.who.alive {
			count++
		}
	}
	return count
}

// underChurn replaces 1 % of the nodes in a minute, of which half is played.
func (f *fleet) underChurn(x *figures) {
	const played = 30 * time.Second
	var r requests
	every := time.Minute * 100 / time.Duration(len(f.nodes))
	churning := f.now.Add(every / 2)
	rates := f.rates(played, func() {
		for end := f.now.Add(played); f.now.Before(end); f.run(50 * time.Millisecond) {
			if !f.now.Before(churning) {
				churning = churning.Add(every)
				f.random().kill()
				f.join()
			}
			for range 5 {
				if n := f.random(); f.now.Sub(n.began) > 10*time.Second {
					f.request(n, f.own(n).Key(), &r)
				}
			}
		}
	})
	f.run(10 * time.Second) // all attempts end
	x.Churn, x.Requests, x.Failed = median(rates), r.sent, r.failed
	x.Lost = r.lost
	x.Direct = float64(10000*r.direct/max(1, r.sent)) / 100
}

func TestScale(t *testing.T) {
	nodes := 64
	if raceDetector {
		nodes = 24
	}
	if *nodesFlag > 0 {
		nodes = *nodesFlag
	}
	x := measure(t, nodes)
	t.Logf("%+v", x)
	require.LessOrEqual(t, x.Links, 60)
	require.LessOrEqual(t, x.Table, maxContacts)
	require.LessOrEqual(t, x.DepthMost, 3)
	require.Less(t, x.Change, 250.0)
	require.Less(t, x.DeadMost, map[bool]float64{true: 1000, false: 2000}[nodes <= 64])
	require.Zero(t, x.Alarms)
	require.Zero(t, x.Failed)
	require.Zero(t, x.NotSettled)
}
