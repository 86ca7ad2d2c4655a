package overlay

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// A neighbourhood is what answers the lookups of a rig: nodes that know of each other.
type neighbourhood struct {
	*rig
	knows map[link.ID][]link.ID
	dead  map[link.ID]bool // cannot be dialled
	mute  map[link.ID]bool // never answers

	target link.ID // of the lookup that is looked at
	asked  []link.ID
	said   []said
}

// said is what the core has said to a node.
type said struct {
	to  link.ID
	msg message
}

func newNeighbourhood(r *rig) *neighbourhood {
	return &neighbourhood{rig: r, knows: map[link.ID][]link.ID{}, dead: map[link.ID]bool{}, mute: map[link.ID]bool{}}
}

// serve carries out what the core wants until it wants nothing more.
func (n *neighbourhood) serve(effects []effect) {
	for len(effects) > 0 {
		e := effects[0]
		effects = effects[1:]
		switch e := e.(type) {
		case dial:
			if ok := !n.dead[e.id]; ok {
				effects = append(effects, n.link(e.id)...)
				effects = append(effects, n.hear(e.id, n.closest(e.id, find{0, n.c.self}))...)
			}
			effects = append(effects, n.step(dialled{e.id, !n.dead[e.id]})...)
		case sendControl:
			m, err := parseMessage(e.msg)
			require.NoError(n.t, err)
			for id, l := range n.links {
				if l == e.link {
					n.said = append(n.said, said{id, m})
				}
			}
			if f, ok := m.(find); ok && f.nonce != 0 {
				effects = append(effects, n.answer(e.link, f)...)
			}
		}
	}
}

func (n *neighbourhood) answer(number uint64, f find) []effect {
	for id, l := range n.links {
		if l != number {
			continue
		}
		if f.target == n.target {
			n.asked = append(n.asked, id)
		}
		if n.mute[id] {
			return nil
		}
		return n.hear(id, n.closest(id, f))
	}
	return nil
}

// closest is what a node answers.
func (n *neighbourhood) closest(id link.ID, f find) found {
	list := slices.SortedFunc(slices.Values(n.knows[id]), func(a, b link.ID) int { return closer(f.target, a, b) })
	m := found{nonce: f.nonce}
	for _, id := range list[:min(len(list), maxFound)] {
		m.list = append(m.list, infoOf(id))
	}
	return m
}

func infoOf(id link.ID) contactInfo {
	return contactInfo{id, 0, []netip.AddrPort{addrOf(hostOf(id))}}
}

// look runs a lookup until it ends, and lists whom it found, the closest first.
func (n *neighbourhood) look(target link.ID) (found []link.ID) {
	n.t.Helper()
	ended := 0
	n.target, n.asked = target, nil
	n.serve(n.step(do(func(c *core) {
		c.lookup(target, func(_ *core, l *lookup) {
			ended++
			for _, w := range l.list {
				if w.state != failed {
					found = append(found, w.id)
				}
			}
		})
	})))
	for end := n.now.Add(time.Minute); ended == 0 && n.now.Before(end); {
		n.serve(n.pass(tickEvery))
	}
	require.Equal(n.t, 1, ended, "it ends, and once")
	n.serve(n.pass(queryWait))
	require.Equal(n.t, 1, ended)
	for _, q := range n.c.queries {
		require.NotEqual(n.t, target, q.of.target)
	}
	return found
}

// do is an event that is whatever the test wants.
type do func(c *core)

func (f do) apply(c *core) { f(c) }

// A chain is nodes each of which knows the next two, that are closer and closer to a target.
func chain(n *neighbourhood, target link.ID, length int) (nodes []link.ID) {
	for i := range length {
		nodes = append(nodes, by(target, 1<<(60-i)))
	}
	for i, id := range nodes {
		n.knows[id] = nodes[min(i+1, length):min(i+3, length)]
	}
	return nodes
}

func TestLookupGoesCloserAndEndsWhenNobodyIs(t *testing.T) {
	target := link.ID(demo)
	n := newNeighbourhood(newRig(t, by(target, 1<<63)))
	nodes := chain(n, target, 10)
	n.link(nodes[0])
	n.dead[by(target, 1<<62)] = true
	n.serve(n.step(offered{by(target, 1<<62), addrOf(7)})) // not all whom it knows are linked
	found := n.look(target)
	require.Equal(t, nodes[9], found[0])
	require.Equal(t, nodes[8], found[1])
	require.Subset(t, n.asked, nodes[7:], "the closest were all asked")
}

func TestLookupIsAsGoodAsWhatTheyKnow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	id := func() (id link.ID) {
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		return id
	}
	for range 20 {
		n := newNeighbourhood(newRig(t, id()))
		var all []link.ID
		for range 200 {
			all = append(all, id())
		}
		for _, a := range all { // its 16 closest and 2 of each bucket, as the overlay has it
			byDistance := slices.SortedFunc(slices.Values(all), func(x, y link.ID) int { return closer(a, x, y) })[1:]
			knows, inBucket := slices.Clone(byDistance[:closePeers]), map[int]int{}
			for _, b := range byDistance[closePeers:] {
				if p := prefix(a, b); inBucket[p] < bucketPeers {
					inBucket[p]++
					knows = append(knows, b)
				}
			}
			n.knows[a] = knows
		}
		for _, i := range rng.Perm(200)[:3] {
			n.serve(n.step(offered{all[i], addrOf(hostOf(all[i]))}))
		}
		target := id()
		best := slices.SortedFunc(slices.Values(all), func(x, y link.ID) int { return closer(target, x, y) })
		require.Equal(t, best[:keepers], n.look(target)[:keepers])
		require.Less(t, len(n.asked), 20, "few are asked")
	}
}

func TestLookupSurvivesNodesThatFailOrDoNotAnswer(t *testing.T) {
	target := link.ID(demo)
	n := newNeighbourhood(newRig(t, by(target, 1<<63)))
	nodes := chain(n, target, 12)
	n.link(nodes[0])
	n.dead[nodes[3]], n.dead[nodes[10]], n.mute[nodes[6]], n.mute[nodes[8]] = true, true, true, true
	n.dead[by(target, 1<<62)] = true
	n.serve(n.step(offered{by(target, 1<<62), addrOf(7)}))
	found := n.look(target)
	require.Equal(t, []link.ID{nodes[11], nodes[9], nodes[7]}, found[:sure], "the closest that answer")

	for _, id := range nodes {
		n.dead[id], n.mute[id] = true, true
	}
	for id := range n.links {
		n.serve(n.unlink(id))
	}
	require.Empty(t, n.look(target), "nobody is left")
}

func TestLookupGoesOnWhenAnAskedNodeIsLost(t *testing.T) {
	target := link.ID(demo)
	n := newNeighbourhood(newRig(t, by(target, 1<<63)))
	n.link(by(target, 1), by(target, 2))
	n.step(offered{by(target, 1<<62), addrOf(7)})
	var left []link.ID
	ended := 0
	n.step(do(func(c *core) {
		c.lookup(target, func(_ *core, l *lookup) {
			ended++
			for _, w := range l.list {
				if w.state == answered {
					left = append(left, w.id)
				}
			}
		})
	}))
	n.step(dialled{by(target, 1<<62), false})
	n.unlink(by(target, 1))
	require.Zero(t, ended, "the other one has yet to answer")
	for nonce, q := range n.c.queries {
		if q.whom.id == by(target, 2) && q.of.target == target {
			n.hear(by(target, 2), found{nonce, nil})
			break
		}
	}
	require.Equal(t, 1, ended)
	require.Equal(t, []link.ID{by(target, 2)}, left)
}

func TestLateAnswerIsLearntAndNoMore(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2))
	effects := r.hear(idOf(2), found{77, []contactInfo{infoOf(idOf(9))}})
	require.Empty(t, effectsOf[closeLink](effects))
	require.Contains(t, r.c.contacts, idOf(9))
}

func TestLookupIsBounded(t *testing.T) {
	target := link.ID(demo)
	n := newNeighbourhood(newRig(t, by(target, 1<<63)))
	// A liar always knows somebody closer, who is dead or a liar, too.
	n.link(by(target, 1<<62))
	n.step(offered{by(target, 1<<61), addrOf(7)})
	for i := range 1000 {
		a := by(target, 1<<62-uint64(i)<<40)
		for k := range maxFound {
			n.knows[a] = append(n.knows[a], by(target, 1<<62-uint64(i+1+k)<<40))
		}
	}
	n.look(target)
	require.LessOrEqual(t, len(n.asked), sure*maxDepth*maxFound/4)
	require.LessOrEqual(t, len(n.c.table), maxContacts)
}

func TestBriefCheckAsksTheKeeperAlone(t *testing.T) {
	far, near := keepersOf(demo, keepers+2)
	n := newNeighbourhood(newRig(t, far))
	n.target = link.ID(demo)
	for _, id := range near {
		n.knows[id] = near
	}
	n.link(near[:keepers]...)
	n.serve(n.step(watch{demoGroup}))
	g := n.c.groups[demo]
	keeper := g.keeper
	for g.seeking || g.pause < refreshEvery {
		n.serve(n.pass(time.Second))
	}
	n.asked = nil
	g.sought = n.now.Add(-g.pause)
	n.serve(n.pass(2 * reviewEvery))
	require.Equal(t, keeper, g.keeper)
	require.Equal(t, []link.ID{keeper}, n.asked)
}

// Those who have not noticed that a node is gone still tell of it.
func TestLookupDoesNotAskWhoWasJustLost(t *testing.T) {
	target := link.ID(demo)
	n := newNeighbourhood(newRig(t, by(target, 1<<63)))
	dead, alive := by(target, 1), by(target, 2)
	n.knows[alive] = []link.ID{dead}
	n.serve(n.link(dead, alive))
	n.pass(10 * time.Second)
	n.serve(n.unlink(dead))
	n.dead[by(target, 1<<62)] = true
	n.serve(n.step(offered{by(target, 1<<62), addrOf(7)})) // not all whom it knows are linked
	var effects []effect
	found := 0
	effects = n.step(do(func(c *core) {
		c.lookup(target, func(_ *core, l *lookup) {
			found++
			require.Equal(t, alive, l.list[0].id)
		})
	}))
	before := len(n.links)
	n.serve(effects)
	require.Equal(t, 1, found, "nobody is waited for")
	require.Len(t, n.links, before)
}
