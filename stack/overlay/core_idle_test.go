package overlay

import (
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// newIdle is a core with more links than it needs. It returns one that it does not need.
func newIdle(t *testing.T, self uint64) (*rig, link.ID) {
	r := newRig(t, idOf(self))
	for i := range uint64(closePeers) {
		r.link(idOf(self ^ (1 + i)))
	}
	for i := range uint64(4) {
		r.link(idOf(self ^ (1<<20 + i)))
	}
	r.pass(offerEvery)
	for i := range uint64(4) {
		if id := idOf(self ^ (1<<20 + i)); !r.c.peer(id).needed {
			return r, id
		}
	}
	t.Fatal("all are needed")
	return nil, link.ID{}
}

func TestLinkThatNobodyNeedsIsOffered(t *testing.T) {
	r, idle := newIdle(t, 1<<32)
	number := r.links[idle]
	effects := r.pass(idleAfter)
	require.Contains(t, effectsOf[offerLink](effects), offerLink{number})
	require.Equal(t, []effect{resumeLink{number}}, r.hear(idle, keep{}))
	require.NotContains(t, effectsOf[offerLink](r.pass(idleAfter-2*reviewEvery)), offerLink{number})
	require.Contains(t, effectsOf[offerLink](r.pass(idleAfter)), offerLink{number})

	r.step(used{number})
	r.pass(reviewEvery)
	require.Zero(t, r.c.peer(idle).offered)
	require.NotContains(t, effectsOf[offerLink](r.pass(idleAfter-2*reviewEvery)), offerLink{number})
}

func TestLinkThatIsNeededIsNotGivenUp(t *testing.T) {
	for name, need := range map[string]func(r *rig, id link.ID){
		"message":     func(r *rig, id link.ID) { r.step(alive{r.links[id], true, false}) },
		"a stance":    func(r *rig, id link.ID) { r.hear(id, stances{1, []stance{{demoGroup, true, false, 1, 1}}}) },
		"the records": func(r *rig, id link.ID) { r.hear(id, replica{1, []share{{demoGroup, true, false, false, nil}}}) },
	} {
		t.Run(name, func(t *testing.T) {
			r, idle := newIdle(t, 1<<32)
			r.pass(idleAfter)
			require.Equal(t, []effect{giveUpLink{r.links[idle]}}, aboutGivingUp(r.hear(idle, release{})))

			r, idle = newIdle(t, 1<<32)
			r.pass(idleAfter - offerEvery)
			need(r, idle)
			require.Equal(t, []keep{{}}, sentTo[keep](r, idle, r.hear(idle, release{})))
		})
	}
}

// aboutGivingUp are those that concern giving a link up.
func aboutGivingUp(effects []effect) (picked []effect) {
	for _, e := range effects {
		switch e.(type) {
		case offerLink, giveUpLink, resumeLink:
			picked = append(picked, e)
		}
	}
	return picked
}

// Where offers cross, the node with the lower id answers, and the other one waits.
func TestOffersThatCross(t *testing.T) {
	offered := func(self uint64) (*rig, link.ID) {
		r, idle := newIdle(t, self)
		for r.c.peer(idle).offered.IsZero() {
			r.pass(reviewEvery)
		}
		return r, idle
	}
	r, idle := offered(1 << 32) // of lower id than those it does not need
	require.Negative(t, r.c.self.Compare(idle))
	require.Equal(t, []effect{giveUpLink{r.links[idle]}}, r.hear(idle, release{}))

	r, idle = offered(1<<32 | 1<<20)
	require.Positive(t, r.c.self.Compare(idle))
	require.Empty(t, r.hear(idle, release{}), "the other one answers")
	require.Equal(t, []effect{resumeLink{r.links[idle]}}, r.hear(idle, keep{}))

	r, idle = offered(1 << 32)
	r.hear(idle, stances{1, []stance{{demoGroup, true, false, 1, 1}}}) // by now it is needed
	effects := r.hear(idle, release{})
	require.Len(t, sentTo[keep](r, idle, effects), 1)
	require.Equal(t, []effect{resumeLink{r.links[idle]}}, aboutGivingUp(effects), "its own offer is not answered, and void")
	require.Zero(t, r.c.peer(idle).offered)
}

func TestLinkThatWasGivenUpIsNoLoss(t *testing.T) {
	r, idle := newIdle(t, 1<<32)
	number := r.links[idle]
	delete(r.links, idle)
	effects := r.step(linkDown{number, true})
	require.Equal(t, []lost{{idle}}, effectsOf[lost](effects))
	require.Zero(t, r.c.contacts[idle].failures)
	require.True(t, r.c.contacts[idle].usable())
	require.Empty(t, r.c.down, "it can be reached")
	require.NotContains(t, effectsOf[dial](r.pass(2*reviewEvery)), dial{idle, addrOf(hostOf(idle))}, "nobody needs it")
	require.Contains(t, effectsOf[dial](r.step(reach{idle})), dial{idle, addrOf(hostOf(idle))})
}
