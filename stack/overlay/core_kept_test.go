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

// Of the nodes in these tests 1 is the core, a keeper that watches, 2 and 3 are other keepers, and
// 9 is a member.
var (
	self, second, third, member = idOf(1), idOf(2), idOf(3), idOf(9)
	nobody                      link.ID
)

func newKeeper(t *testing.T) *rig {
	r := newRig(t, self)
	r.step(watch{demoGroup})
	r.link(second, third)
	for _, k := range []link.ID{second, third} {
		r.hear(k, replica{1, []share{{demoGroup, true, false, false, nil}}})
	}
	r.confirmAll()
	return r
}

// replicate has a keeper say that it answers for a record of the member.
func (r *rig) replicate(by link.ID, version uint64, count uint32) []effect {
	return r.hear(by, replica{7, []share{{demoGroup, true, false, false, []replicated{{member, addrOf(9), version, count}}}}})
}

// confirmAll has the peers confirm all that they were told.
func (r *rig) confirmAll() (effects []effect) {
	for again := true; again; {
		again = false
		for _, p := range slices.Clone(r.c.peers) {
			for len(p.outbox.unacked) > 0 {
				effects, again = append(effects, r.hear(p.id, ack{p.outbox.unacked[0].sequence})...), true
			}
		}
	}
	return effects
}

// members is the view that the core shows.
func (r *rig) members() map[link.ID]int {
	view := map[link.ID]int{}
	for _, m := range r.c.groups[demo].shown {
		view[m.Node] = m.Count
	}
	return view
}

func TestNewerRecordWins(t *testing.T) {
	for name, row := range map[string]struct {
		old, new record // version, count, by
		taken    bool
	}{
		"first":                                {record{}, record{version: 1, count: 1, by: second}, true},
		"first, and has left":                  {record{}, record{version: 1, count: 0, by: second}, true},
		"watches only":                         {record{}, record{version: 1, count: 0, by: self}, false},
		"orphan":                               {record{}, record{version: 5, count: 1}, true},
		"orphan of one who is known":           {record{version: 5, count: 2, by: second}, record{version: 6, count: 1}, false},
		"orphan of one who left":               {record{version: 5, count: 0, by: second}, record{version: 5, count: 1}, false},
		"newer":                                {record{version: 5, count: 1, by: second}, record{version: 6, count: 2, by: third}, true},
		"older":                                {record{version: 5, count: 1, by: second}, record{version: 4, count: 2, by: third}, false},
		"older, of this node's":                {record{version: 5, count: 1, by: second}, record{version: 4, count: 2, by: self}, false},
		"older, when it has left":              {record{version: 5, count: 0, by: second}, record{version: 4, count: 2, by: third}, false},
		"older leave":                          {record{version: 5, count: 1, by: second}, record{version: 4, count: 0, by: third}, false},
		"leave":                                {record{version: 5, count: 1, by: second}, record{version: 6, count: 0, by: third}, true},
		"join after a leave":                   {record{version: 5, count: 0, by: second}, record{version: 6, count: 1, by: third}, true},
		"another keeper":                       {record{version: 5, count: 1, by: second}, record{version: 5, count: 1, by: third}, true},
		"this node's, known of another":        {record{version: 5, count: 1, by: second}, record{version: 5, count: 1, by: self}, true},
		"another's, known at first hand":       {record{version: 5, count: 1, by: self}, record{version: 5, count: 1, by: third}, false},
		"death":                                {record{version: 5, count: 1, by: second}, record{version: 5, count: 0, by: second}, true},
		"death, known at first hand":           {record{version: 5, count: 1, by: self}, record{version: 5, count: 0, by: second}, true},
		"what it was before it died":           {record{version: 5, count: 0, by: second}, record{version: 5, count: 1, by: third}, false},
		"adopted":                              {record{version: 5, count: 1}, record{version: 5, count: 1, by: third}, true},
		"adopted in an old version":            {record{version: 5, count: 1}, record{version: 4, count: 1, by: third}, false},
		"adopted when it was taken for gone":   {record{version: 5, count: 0}, record{version: 5, count: 1, by: third}, true},
		"adopted here when taken for gone":     {record{version: 5, count: 0}, record{version: 5, count: 1, by: self}, true},
		"an old one when it is taken for gone": {record{version: 5, count: 0}, record{version: 4, count: 1, by: third}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newKeeper(t)
			k := r.c.groups[demo].kept
			row.new.node, row.new.addr = member, addrOf(9)
			if row.old != (record{}) {
				old := row.old
				old.node, old.addr = member, addrOf(8)
				k.records[member] = &old
				if old.count > 0 {
					k.members = append(k.members, &old)
				}
			}
			r.step(do(func(c *core) { c.takeRecord(c.groups[demo], row.new, nil) }))
			now, want := k.records[member], row.old
			if row.taken {
				want = row.new
			}
			if want == (record{}) {
				require.Nil(t, now)
				return
			}
			require.Equal(t, []any{want.version, want.count, want.by}, []any{now.version, now.count, now.by})
			if now.count > 0 {
				require.Equal(t, []*record{now}, k.members)
			} else {
				require.Empty(t, k.members)
			}
		})
	}
}

func TestOldLeaveDoesNotOvertakeANewJoin(t *testing.T) {
	r := newKeeper(t)
	r.replicate(second, 6, 1)
	r.replicate(third, 8, 2) // it has left the second keeper, and told the third one
	r.replicate(second, 7, 0)
	require.Equal(t, map[link.ID]int{member: 2}, r.members())
	r.replicate(second, 9, 0)
	require.Empty(t, r.members())
	r.replicate(third, 8, 2)
	require.Empty(t, r.members(), "nor does an old join")
}

func TestRecordOfADeadKeeperWaitsToBeAdopted(t *testing.T) {
	for name, adopt := range map[string]func(r *rig){
		"by another keeper": func(r *rig) { r.replicate(third, 5, 1) },
		"by this one": func(r *rig) {
			r.link(member)
			r.hear(member, stances{1, []stance{{demoGroup, false, false, 5, 1}}})
		},
		"by this one, in a later version": func(r *rig) {
			r.link(member)
			r.hear(member, stances{1, []stance{{demoGroup, false, false, 6, 1}}})
		},
		"by nobody": func(*rig) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newKeeper(t)
			r.replicate(second, 5, 1)
			r.unlink(second)
			require.Equal(t, map[link.ID]int{member: 1}, r.members())
			r.pass(orphanTime - time.Second)
			require.Equal(t, map[link.ID]int{member: 1}, r.members())
			adopt(r)
			r.pass(time.Second - tickEvery)
			require.Equal(t, map[link.ID]int{member: 1}, r.members())
			r.pass(5 * orphanTime)
			if name == "by nobody" {
				require.Empty(t, r.members())
			} else {
				require.Equal(t, map[link.ID]int{member: 1}, r.members())
			}
		})
	}
}

func TestKeeperThatEndsKeepingLeavesItsRecordsToBeAdopted(t *testing.T) {
	r := newKeeper(t)
	r.replicate(second, 5, 1)
	r.hear(second, replica{8, []share{{demoGroup, false, false, false, nil}}})
	require.Equal(t, map[link.ID]int{member: 1}, r.members())
	r.pass(orphanTime - tickEvery)
	require.Equal(t, map[link.ID]int{member: 1}, r.members())
	r.pass(2 * tickEvery)
	require.Empty(t, r.members())
}

func TestRecordThatIsOrphanedAgainWaitsAnew(t *testing.T) {
	r := newKeeper(t)
	r.replicate(second, 5, 1)
	r.unlink(second)
	r.pass(orphanTime - time.Second)
	r.replicate(third, 5, 1)
	r.unlink(third)
	r.pass(2 * time.Second)
	require.Equal(t, map[link.ID]int{member: 1}, r.members(), "the third keeper died a moment ago")
	r.pass(orphanTime)
	require.Empty(t, r.members())
}

// told lists what a fellow keeper is told of a group in these effects.
func (r *rig) told(to link.ID, effects []effect) (list []share) {
	for _, m := range sentTo[replica](r, to, effects) {
		list = append(list, m.list...)
	}
	return list
}

func TestNewKeeperLearnsOfOrphansWhileTheyAreNews(t *testing.T) {
	r := newKeeper(t)
	r.replicate(second, 5, 1)
	r.unlink(second)
	anew := []share{{demoGroup, true, true, false, nil}}
	r.pass(orphanNews - tickEvery)
	require.Equal(t, []share{
		{demoGroup, true, false, false, []replicated{}},
		{demoGroup, true, false, true, []replicated{{member, addrOf(9), 5, 1}}},
	}, r.told(third, r.hear(third, replica{8, anew})))
	r.confirmAll()
	r.pass(2 * tickEvery)
	require.Equal(t, []share{{demoGroup, true, false, false, []replicated{}}}, r.told(third, r.hear(third, replica{9, anew})))
}

func TestNewKeeperLearnsWhoLeft(t *testing.T) {
	r := newKeeper(t)
	r.link(member)
	r.hear(member, stances{1, []stance{{demoGroup, false, false, 5, 1}}})
	r.hear(member, stances{2, []stance{{demoGroup, false, false, 6, 0}}})
	r.confirmAll()
	require.Equal(t, []share{{demoGroup, true, false, false, []replicated{{member, addrOf(hostOf(member)), 6, 0}}}},
		r.told(third, r.hear(third, replica{9, []share{{demoGroup, true, true, false, nil}}})))
}

func TestNodeKnowsBestWhatItHosts(t *testing.T) {
	for who, attach := range map[link.ID]func(r *rig){
		self: func(*rig) {},
		member: func(r *rig) {
			r.link(member)
			r.hear(member, stances{1, []stance{{demoGroup, true, false, 5, 0}}})
		},
	} {
		r := newKeeper(t)
		attach(r)
		r.confirmAll()
		effects := r.hear(second, replica{9, []share{{demoGroup, true, false, true, []replicated{{who, addrOf(9), 4, 1}}}}})
		require.Empty(t, r.members())
		require.Equal(t, []share{{demoGroup, true, false, false, []replicated{{who, netip.AddrPort{}, 4, 0}}}}, r.told(third, effects))
	}
}

func TestDeadKeepersOwnRecordIsGoneAtOnce(t *testing.T) {
	r := newKeeper(t)
	r.hear(second, replica{7, []share{{demoGroup, true, false, false, []replicated{{second, netip.AddrPort{}, 5, 1}, {member, addrOf(9), 5, 1}}}}})
	r.unlink(second)
	require.Equal(t, map[link.ID]int{member: 1}, r.members())
}

func TestDeadMemberIsGoneAtOnceAndTheOtherKeepersAreTold(t *testing.T) {
	r := newKeeper(t)
	r.link(member)
	r.hear(member, stances{1, []stance{{demoGroup, false, false, 5, 1}}})
	r.confirmAll()
	effects := r.unlink(member)
	require.Empty(t, r.members())
	require.Less(t, slices.IndexFunc(effects, func(e effect) bool { _, ok := e.(pushView); return ok }), slices.Index(effects, effect(lost{member})), "views come before the news")
	for _, k := range []link.ID{second, third} {
		told := sentTo[replica](r, k, effects)
		require.Len(t, told, 1)
		require.Equal(t, []replicated{{member, addrOf(hostOf(member)), 5, 0}}, told[0].list[0].list)
	}
}

func TestWhoLeftIsRememberedForAWhile(t *testing.T) {
	r := newKeeper(t)
	r.replicate(second, 5, 1)
	r.replicate(second, 6, 0)
	r.pass(tombTime / 2)
	r.replicate(third, 7, 1)
	r.replicate(third, 8, 0)
	r.pass(tombTime/2 + tickEvery)
	r.replicate(third, 7, 1)
	require.Empty(t, r.members(), "it left half a minute ago")
	r.pass(tombTime)
	require.Empty(t, r.c.groups[demo].kept.records, "and is forgotten")
	require.Empty(t, r.c.lapses.tombs)
}

func TestOwnCountIsNotForgottenWithItsTombstone(t *testing.T) {
	r := newKeeper(t)
	r.step(announce{1, map[Group]uint32{demoGroup: 1}})
	r.step(announce{2, map[Group]uint32{demoGroup: 0}})
	r.step(announce{3, map[Group]uint32{demoGroup: 2}})
	r.confirmAll()
	r.pass(2 * tombTime)
	require.EqualValues(t, 2, r.c.groups[demo].kept.records[self].count)
}

func TestConfirmedWhenEverybodyShowsIt(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		r := newKeeper(t)
		watchers := []link.ID{idOf(4), idOf(5), idOf(6)}
		r.link(append(watchers, member)...)
		for _, w := range watchers {
			r.hear(w, stances{1, []stance{{demoGroup, true, false, 1, 0}}})
		}
		r.confirmAll()

		require.Empty(t, sentTo[ack](r, member, r.hear(member, stances{77, []stance{{demoGroup, false, false, 5, 1}}})))
		type owed struct {
			p   *peer
			seq uint64
		}
		var all []owed
		shown := 0
		for _, p := range r.c.peers {
			for _, s := range p.outbox.unacked {
				all = append(all, owed{p, s.sequence})
				for _, b := range s.parcels {
					if b.class == ofView {
						shown++
					}
				}
			}
		}
		require.Equal(t, len(watchers), shown)
		require.GreaterOrEqual(t, len(all), len(watchers)+2, "the other keepers, too")
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i, o := range all {
			acks := sentTo[ack](r, member, r.hear(o.p.id, ack{o.seq}))
			if i < len(all)-1 {
				require.Empty(t, acks)
			} else {
				require.Equal(t, []ack{{77}}, acks)
			}
		}
	}
}

// Those that watch through a keeper that is gone have another one adoptTime later.
func TestKeeperThatDiesConfirmsLater(t *testing.T) {
	for name, row := range map[string]struct {
		end  func(r *rig)
		wait time.Duration
	}{
		"dies":        {func(r *rig) { r.unlink(third) }, adoptTime},
		"leaves":      {func(r *rig) { r.hear(third, leaving{}); r.unlink(third) }, 0},
		"is given up": {func(r *rig) { r.step(linkDown{r.links[third], true}); delete(r.links, third) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newKeeper(t)
			r.confirmAll()
			r.step(announce{1, map[Group]uint32{demoGroup: 1}})
			require.Empty(t, effectsOf[confirmed](r.hear(second, ack{r.c.peer(second).outbox.unacked[0].sequence})))
			require.Contains(t, r.c.peer(third).outbox.unacked[0].parcels[0].has, self)
			row.end(r)
			require.Equal(t, row.wait > 0, r.c.unconfirmed == 1)
			if row.wait > 0 {
				require.Empty(t, effectsOf[confirmed](r.pass(row.wait-tickEvery)))
				require.Equal(t, []confirmed{{1}}, effectsOf[confirmed](r.pass(2*tickEvery)))
			}
		})
	}
}

func TestStanceThatADeadKeeperDidNotConfirmIsToldToAnother(t *testing.T) {
	far, near := keepersOf(demo, keepers)
	n := newNeighbourhood(newRig(t, far))
	n.link(near...)
	n.serve(n.step(announce{1, map[Group]uint32{demoGroup: 3}}))
	keeper := n.c.groups[demo].keeper
	require.Contains(t, near, keeper)
	n.dead[keeper] = true
	n.said = nil
	n.knows[near[0]] = near
	n.serve(n.unlink(keeper))
	for n.c.groups[demo].keeper == nobody {
		n.serve(n.pass(tickEvery))
	}
	another := n.c.groups[demo].keeper
	require.NotEqual(t, keeper, another)
	if another == far { // of eight nodes it is one of the closest now
		require.Zero(t, n.c.groups[demo].kept.records[far].count-3)
		return
	}
	require.Contains(t, n.said, said{another, stances{1, []stance{{demoGroup, false, false, 2, 3}}}})
	require.Equal(t, []confirmed{{1}}, effectsOf[confirmed](n.hear(another, ack{1})))
}

func TestMovedNodeTellsACloserKeeperAndThenTakesLeave(t *testing.T) {
	far := by(link.ID(demo), 1<<63)
	var old, better []link.ID
	for i := range uint64(keepers) {
		old, better = append(old, by(link.ID(demo), 100+i)), append(better, by(link.ID(demo), 1+i))
	}
	n := newNeighbourhood(newRig(t, far))
	n.link(old...)
	n.serve(n.step(watch{demoGroup}))
	n.serve(n.step(announce{1, map[Group]uint32{demoGroup: 3}}))
	former := n.c.groups[demo].keeper
	n.hear(former, ack{1})
	n.hear(former, ack{2})
	n.hear(former, view{1, true, true, demo, []entry{{member, addrOf(9), 1}}})
	require.Equal(t, map[link.ID]int{member: 1}, n.members())

	for _, id := range slices.Concat(old, better) {
		n.knows[id] = better
	}
	m := moved{key: demo}
	for _, id := range better {
		m.list = append(m.list, infoOf(id))
	}
	n.said = nil
	n.serve(n.hear(former, m))
	for range 20 {
		n.serve(n.pass(tickEvery))
	}
	keeper := n.c.groups[demo].keeper
	require.Contains(t, better, keeper)
	told := func(to link.ID) (all []stance) {
		for _, s := range n.said {
			if m, ok := s.msg.(stances); ok && s.to == to {
				all = append(all, m.list...)
			}
		}
		return all
	}
	require.Equal(t, []stance{{demoGroup, true, false, 3, 3}}, told(keeper))
	require.Empty(t, told(former), "until the new one has confirmed")
	require.Equal(t, map[link.ID]int{member: 1}, n.members(), "what is shown stays")

	n.serve(n.hear(keeper, ack{1}))
	require.Equal(t, []stance{{demoGroup, false, true, 0, 0}}, told(former))
	n.hear(former, view{2, false, true, demo, []entry{{member, addrOf(9), 0}}})
	require.Equal(t, map[link.ID]int{member: 1}, n.members(), "the former keeper is not heard")
	n.hear(keeper, view{1, true, true, demo, []entry{{member, addrOf(9), 2}}})
	require.Equal(t, map[link.ID]int{member: 2}, n.members())
}

func TestKeeperWarnsWhoTellsAStanceToTheWrongNode(t *testing.T) {
	far, near := keepersOf(demo, keepers)
	r := newRig(t, far)
	r.link(append(near, member)...)
	r.hear(member, stances{1, []stance{{demoGroup, true, false, 5, 1}}})
	effects := r.pass(2 * reviewEvery)
	warned := sentTo[moved](r, member, effects)
	require.Len(t, warned, 1)
	require.Equal(t, demo, warned[0].key)
	var ids []link.ID
	for _, i := range warned[0].list {
		ids = append(ids, i.id)
	}
	require.Equal(t, near, ids)
	r.hear(member, stances{2, []stance{{demoGroup, false, true, 0, 0}}})
	r.pass(2 * warnEvery)
	require.Nil(t, r.c.groups[demo], "it keeps nothing for others any more")
}

func TestWhoLeftAndTellsAnotherKeeperIsForgotten(t *testing.T) {
	r := newKeeper(t)
	r.link(member)
	r.hear(member, stances{1, []stance{{demoGroup, true, false, 5, 1}}})
	r.hear(member, stances{2, []stance{{demoGroup, true, false, 6, 0}}})
	r.hear(member, stances{3, []stance{{demoGroup, false, true, 0, 0}}})
	r.pass(tombTime + tickEvery)
	require.Empty(t, r.c.groups[demo].kept.records)
}

// Where a keeper is a member itself, nobody but the other keepers can notice that it dies.
func TestKeeperThatIsAMemberIsWatchedOver(t *testing.T) {
	r := newKeeper(t)
	for i := range uint64(fewPeers) {
		r.link(idOf(100 + i))
	}
	every := func(id link.ID) time.Duration { return r.c.pingEvery(r.c.peer(id)) }
	require.Equal(t, pingLate, every(second))
	r.hear(second, replica{7, []share{{demoGroup, true, false, false, []replicated{{second, netip.AddrPort{}, 5, 1}}}}})
	require.Equal(t, pingSoon, every(second))
	require.Equal(t, pingLate, every(third))
	r.hear(second, replica{8, []share{{demoGroup, true, false, false, []replicated{{second, netip.AddrPort{}, 6, 0}}}}})
	require.Equal(t, pingLate, every(second))
	r.hear(second, replica{9, []share{{demoGroup, true, false, false, []replicated{{second, netip.AddrPort{}, 7, 1}}}}})
	r.hear(second, replica{10, []share{{demoGroup, false, false, false, nil}}})
	require.Equal(t, pingLate, every(second))
}
