package overlay

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// stancesOn are stances on count groups, from number first on.
func stancesOn(first, count int) stances {
	m := stances{sequence: 1}
	for i := range count {
		m.list = append(m.list, stance{group: Group{KindTopic, fmt.Sprint(first + i)}, version: 1, count: 1})
	}
	return m
}

func sharesOf(first, count int) replica {
	m := replica{sequence: 1}
	for i := range count {
		m.list = append(m.list, share{group: Group{KindTopic, fmt.Sprint(first + i)}, keeping: true})
	}
	return m
}

// tooMany has a peer say more than it may, in messages of the longest kind.
func tooMany[M message](some func(first, count int) M) (list []message) {
	for first := 0; first < maxPeerGroups; first += maxStances {
		list = append(list, some(first, maxStances))
	}
	return list
}

// raw are bytes that are sent as they are.
type raw []byte

func (raw) receive(*core, *peer) error { panic("is not received") }
func (m raw) appendTo(b []byte) []byte { return append(b, m...) }

func TestGarbageEndsTheLinkAndThePeerIsLeftAlone(t *testing.T) {
	// The peer is 2 and has been sent: find 1, replica 1 of the demo group. Peer 3 was sent find 2.
	for name, said := range map[string][]message{
		"empty":                          {raw{}},
		"unknown type":                   {raw{99}},
		"trailing byte":                  {raw{typeLeaving, 0}},
		"too long":                       {raw(make([]byte, maxControl+1))},
		"leaving twice":                  {leaving{}, leaving{}},
		"ack of what was not sent":       {ack{2}},
		"ack of nothing":                 {ack{0}},
		"ack twice":                      {ack{1}, ack{1}},
		"pong of what was not pinged":    {pong{1}},
		"pong of nothing":                {pong{0}},
		"an answer that 3 was asked for": {found{2, nil}},
		"too many stances":               tooMany(stancesOn),
		"too many groups that it keeps":  tooMany(sharesOf),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, idOf(1))
			r.step(watch{demoGroup})
			r.step(offered{idOf(3), addrOf(3)})
			sent := r.link(idOf(2), idOf(3))
			require.Equal(t, []find{{1, idOf(1)}}, sentTo[find](r, idOf(2), sent))
			require.Equal(t, []find{{2, idOf(1)}}, sentTo[find](r, idOf(3), sent))
			require.Len(t, sentTo[replica](r, idOf(2), sent), 1)

			var effects []effect
			for _, m := range said {
				require.Empty(t, effectsOf[closeLink](effects))
				effects = r.hear(idOf(2), m)
			}
			r.leftAlone(idOf(2), effects)
			require.Equal(t, []*group{r.c.groups[demo]}, r.groupsLeft())
		})
	}
}

// leftAlone checks that a peer broke the protocol, and what follows.
func (r *rig) leftAlone(id link.ID, effects []effect) {
	t := r.t
	t.Helper()
	require.Equal(t, []closeLink{{r.links[id], closeProtocol}}, effectsOf[closeLink](effects))
	require.Equal(t, []lost{{id}}, effectsOf[lost](effects))
	for _, g := range r.c.groups {
		require.True(t, g.kept == nil || len(g.kept.members) == 0 && len(g.kept.watchers) == 0 && !slices.ContainsFunc(g.kept.attached, func(p *peer) bool { return p.id == id }))
	}
	require.Nil(t, r.c.peer(id))
	require.Empty(t, r.unlink(id))

	began := r.now
	r.step(offered{id, addrOf(hostOf(id))})
	r.now = began.Add(banTime - 1)
	require.NotContains(t, effectsOf[dial](r.step(tick{})), dial{id, addrOf(hostOf(id))}, "not dialled")
	require.Equal(t, []effect{closeLink{99, closeProtocol}}, r.step(linkUp{99, id, addrOf(hostOf(id))}), "not accepted")
	r.now = began.Add(banTime)
	require.Contains(t, effectsOf[dial](r.step(tick{})), dial{id, addrOf(hostOf(id))}, "forgiven")
	r.link(id)
	require.NotNil(t, r.c.peer(id))
}

// groupsLeft are the groups that are known when all has lapsed that may.
func (r *rig) groupsLeft() []*group {
	r.now = r.now.Add(tombTime + shunTime)
	r.pass(2 * reviewEvery)
	return slices.Collect(maps.Values(r.c.groups))
}

func TestChangeOfAViewThatWasNotToldEndsTheLink(t *testing.T) {
	far, near := keepersOf(demo, keepers)
	r := newRig(t, far)
	r.link(near...)
	r.step(watch{demoGroup})
	keeper := r.c.groups[demo].keeper
	require.Contains(t, near, keeper)
	other := near[(slices.Index(near, keeper)+1)%len(near)]

	change := view{sequence: 1, whole: true, key: demo, list: []entry{{node: idOf(9), count: 1}}}
	require.Equal(t, []ack{{1}}, sentTo[ack](r, other, r.hear(other, change)), "it is not asked, and is not heard")
	require.Empty(t, r.c.groups[demo].entries)
	effects := r.hear(keeper, change)
	_, pushed := shown(effects, demo)
	require.False(t, pushed)
	r.leftAlone(keeper, effects)
}

func TestNewLinkOfAPeerReplacesItsOldOne(t *testing.T) {
	r := newRig(t, idOf(1))
	r.step(watch{demoGroup})
	r.link(idOf(2))
	r.hear(idOf(2), stances{1, []stance{{demoGroup, true, false, 5, 1}}})

	old := r.links[idOf(2)]
	effects := r.link(idOf(2))
	view, pushed := shown(effects, demo)
	require.True(t, pushed)
	require.Empty(t, view)
	require.Equal(t, []lost{{idOf(2)}}, effectsOf[lost](effects))
	require.Empty(t, effectsOf[closeLink](effects), "it ends by itself")
	require.Len(t, r.c.peers, 1)
	require.Empty(t, r.c.groups[demo].kept.watchers)

	require.Empty(t, r.step(control{old, []byte("late")}), "what comes on the old link is nobody's")
	require.Empty(t, r.step(linkDown{old, false}))
	effects = r.hear(idOf(2), stances{1, []stance{{demoGroup, false, false, 6, 3}}})
	view, _ = shown(effects, demo)
	require.Equal(t, map[link.ID]int{idOf(2): 3}, view)
	require.Equal(t, []uint64{1}, sequences(sentTo[replica](r, idOf(2), r.link(idOf(2)))), "and begins to count anew")
}

func sequences(list []replica) (all []uint64) {
	for _, m := range list {
		all = append(all, m.sequence)
	}
	return all
}

func TestSlowPeerDoesNotLetAnnouncementsPileUp(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2)) // a keeper as well, and so it is told
	sent, batch := 0, uint64(0)
	for !r.c.busy() {
		batch++
		sent += len(sentTo[replica](r, idOf(2), r.step(announce{batch, map[Group]uint32{demoGroup: uint32(batch)}})))
	}
	require.Equal(t, uint64(maxAnnouncing), batch)
	require.Equal(t, maxUnacked, sent)
	outbox := &r.c.peers[0].outbox
	require.Len(t, outbox.owed, 1, "one group is owed once")
	require.Len(t, outbox.owed[0].nodes, 1)

	for i := range uint64(maxUnacked) {
		require.Equal(t, []confirmed{{i + 1}}, effectsOf[confirmed](r.hear(idOf(2), ack{i + 1})))
	}
	effects := r.hear(idOf(2), ack{maxUnacked + 1})
	require.Len(t, effectsOf[confirmed](effects), maxAnnouncing-maxUnacked)
	require.False(t, r.c.busy())
}

func TestSlowWatcherDoesNotLetViewsPileUp(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2), idOf(3))
	r.hear(idOf(2), stances{1, []stance{{demoGroup, true, false, 1, 0}}})
	r.hear(idOf(3), replica{1, []share{{demoGroup, true, false, false, nil}}})
	r.pass(time.Second)
	sent := 0
	for i := range uint64(1000) {
		effects := r.hear(idOf(3), stances{2 + i, []stance{{demoGroup, false, false, 1 + i, uint32(1 + i)}}})
		sent += len(sentTo[view](r, idOf(2), effects))
		for _, m := range sentTo[replica](r, idOf(3), effects) {
			r.hear(idOf(3), ack{m.sequence})
		}
	}
	outbox := &r.c.peer(idOf(2)).outbox
	require.Less(t, sent, maxUnacked)
	require.LessOrEqual(t, len(outbox.owed), 2)
	for _, b := range outbox.owed {
		require.LessOrEqual(t, len(b.nodes), 1)
	}
	var last view
	for len(outbox.unacked) > 0 {
		for _, m := range sentTo[view](r, idOf(2), r.hear(idOf(2), ack{outbox.unacked[0].sequence})) {
			last = m
		}
	}
	require.Equal(t, uint32(1000), last.list[0].count, "the end of it is told")
}
