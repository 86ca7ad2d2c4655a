package overlay

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// A rig drives one core by hand. The peers say what the test says, and answer pings.
type rig struct {
	t     testing.TB
	c     *core
	now   time.Time
	links map[link.ID]uint64
	last  uint64
}

func newRig(t testing.TB, self link.ID) *rig {
	return &rig{t: t, c: newCore(self), now: epoch, links: map[link.ID]uint64{}}
}

func (r *rig) step(e event) []effect { return r.c.step(r.now, e) }

// hostOf is an address that fits the id.
func hostOf(id link.ID) byte { return 1 + id[31]%200 }

// link links to nodes, one after the other.
func (r *rig) link(ids ...link.ID) (effects []effect) {
	for _, id := range ids {
		r.last++
		r.links[id] = r.last
		effects = append(effects, r.step(linkUp{r.last, id, addrOf(hostOf(id))})...)
	}
	return effects
}

// unlink lets a link break.
func (r *rig) unlink(id link.ID) []effect {
	number := r.links[id]
	delete(r.links, id)
	return r.step(linkDown{number, false})
}

// hear has a peer say something.
func (r *rig) hear(from link.ID, m message) []effect {
	require.Contains(r.t, r.links, from)
	return r.step(control{r.links[from], m.appendTo(nil)})
}

// pass lets time pass in which all peers live.
func (r *rig) pass(d time.Duration) (effects []effect) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(tickEvery)
		var now []effect
		for _, number := range r.links {
			now = append(now, r.step(alive{number, false, false})...)
		}
		now = append(now, r.step(tick{})...)
		effects = append(effects, now...)
		for id := range r.links {
			for _, m := range sentTo[ping](r, id, now) {
				if p := r.c.peer(id); p != nil && !p.asked.IsZero() {
					r.hear(id, pong(m))
				}
			}
		}
	}
	return effects
}

// sentTo picks the messages of one type that were sent to a peer.
func sentTo[M message](r *rig, id link.ID, effects []effect) (picked []M) {
	for _, e := range effectsOf[sendControl](effects) {
		m, err := parseMessage(e.msg)
		require.NoError(r.t, err)
		if m, ok := m.(M); ok && e.link == r.links[id] {
			picked = append(picked, m)
		}
	}
	return picked
}

// by is the id at a distance from another one: a greater distance is farther.
func by(from link.ID, distance uint64) link.ID {
	binary.BigEndian.PutUint64(from[:], binary.BigEndian.Uint64(from[:])^distance)
	return from
}

// shown is the last view that was pushed of a group.
func shown(effects []effect, g Key) (view map[link.ID]int, pushed bool) {
	for _, e := range effectsOf[pushView](effects) {
		if e.group == g {
			view, pushed = map[link.ID]int{}, true
			for _, m := range e.members {
				view[m.Node] = m.Count
			}
		}
	}
	return view, pushed
}

// keepersOf makes a node that is none of the keepers of a group, and some that are, the nearest
// first.
func keepersOf(g Key, count int) (far link.ID, near []link.ID) {
	for i := range count {
		near = append(near, by(link.ID(g), uint64(1+i)))
	}
	return by(link.ID(g), 1<<63), near
}
