package overlay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

var (
	demoGroup  = Group{KindCluster, "demo"}
	otherGroup = Group{KindCluster, "other"}
	demo       = demoGroup.Key()
	other      = otherGroup.Key()
	hosted     = map[Key]Group{demo: demoGroup, other: otherGroup}
)

func TestNodesThatLearnOfOneLinkToAll(t *testing.T) {
	for _, count := range []int{2, 12, 40} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			simulate(t, 3, func(s *sim) {
				first := s.start(demo)
				for range count - 1 {
					s.start(demo).offer(first)
				}
				for i, n := range s.nodes {
					n.announce(demoGroup, uint32(i+1))
				}
				took := s.until(4*time.Second, "all views converge", s.converged)
				s.t.Log("converged after", took)
			})
		})
	}
}

func TestViewsFollowEveryChange(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		nodes := s.mesh(5, demo)
		for i := range 200 {
			nodes[s.rng.IntN(5)].announce(demoGroup, uint32(s.rng.IntN(3)*(i+1)))
			s.run(time.Duration(s.rng.Int64N(int64(4 * time.Millisecond))))
		}
		s.until(time.Second, "views converge", s.converged)
		s.run(100 * time.Millisecond)
		for _, n := range nodes {
			require.Empty(s.t, n.announced, "all was confirmed")
		}
	})
}

func TestConfirmedWhenEveryPeerShowsIt(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		nodes := s.mesh(4, demo)
		slow := nodes[3]
		s.cut = func(a, b *simNode) bool { return a == slow || b == slow }

		batch := nodes[0].announce(demoGroup, 7) // checkConfirmed holds it against the views
		s.run(300 * time.Millisecond)
		require.Contains(s.t, nodes[0].announced, batch, "one peer has not confirmed")
		require.Equal(s.t, 7, nodes[1].view(demo)[nodes[0].id])

		s.heal()
		s.run(50 * time.Millisecond)
		require.NotContains(s.t, nodes[0].announced, batch)
	})
}

func TestPeerThatDiesConfirmsByBeingGone(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		nodes := s.mesh(3, demo)
		nodes[2].kill()
		batch := nodes[0].announce(demoGroup, 1)
		s.run(100 * time.Millisecond)
		require.Contains(s.t, nodes[0].announced, batch)
		s.run(900*time.Millisecond + adoptTime)
		require.NotContains(s.t, nodes[0].announced, batch)
	})
}

func TestManyGroupsReachANewPeerInBoundedMessages(t *testing.T) {
	simulate(t, 2, func(s *sim) {
		const groups = 30_000
		n, o := s.start(), s.start(demo)
		counts := map[Group]uint32{demoGroup: 3}
		for i := range groups - 1 {
			counts[Group{KindTopic, fmt.Sprint(i)}] = 1
		}
		n.history[demo] = []uint32{3}
		n.step(announce{1, counts})

		o.offer(n)
		s.until(2*time.Second, "synced", func() bool { return len(o.core.groups) == groups && s.converged() })
		require.Len(s.t, o.core.groups, groups)
		require.True(s.t, s.converged())

		n.announce(demoGroup, 4)
		s.run(100 * time.Millisecond)
		require.Equal(s.t, 4, o.view(demo)[n.id])
	})
}

func TestStallOfAPeerRaisesNoAlarm(t *testing.T) {
	simulate(t, 20, func(s *sim) {
		nodes := s.mesh(5, demo)
		s.run(time.Duration(s.rng.Int64N(int64(time.Second))))
		for range 5 {
			nodes[2].stall(400 * time.Millisecond)
			s.run(time.Second + time.Duration(s.rng.Int64N(int64(time.Second))))
		}
		require.Empty(s.t, s.lostAt)
	})
}

func TestStalledNodeDeclaresNobodyDead(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(5, demo)
		stalled := nodes[2]
		// Nobody else would wait that long for it, but here they cannot tell: their
		// own silence deadlines are put off, too.
		for _, n := range nodes {
			n.stall(1500 * time.Millisecond)
		}
		stalled.stall(1550 * time.Millisecond)
		s.run(4 * time.Second)
		require.Empty(s.t, s.lostAt)
	})
}

func TestDeadNodeIsNoticedWithinASecond(t *testing.T) {
	simulate(t, 20, func(s *sim) {
		nodes := s.mesh(12, demo)
		for _, n := range nodes {
			n.announce(demoGroup, 1)
		}
		s.run(time.Duration(s.rng.Int64N(int64(time.Second))))
		killed := s.now
		nodes[3].kill()
		s.run(time.Second)
		require.Len(s.t, s.lostAt, 11)
		for _, l := range s.lostAt {
			require.Same(s.t, nodes[3], l.who)
			require.Less(s.t, l.at.Sub(killed), 900*time.Millisecond)
		}
		require.True(s.t, s.converged())
	})
}

func TestPacketsAreASignOfLife(t *testing.T) {
	simulate(t, 1, func(s *sim) {
		nodes := s.mesh(2)
		s.cut = func(a, b *simNode) bool { return true } // no heartbeat passes
		live := func(d time.Duration) {
			for end := s.now.Add(d); s.now.Before(end) && len(nodes[0].core.peers) > 0; s.run(tickEvery) {
				nodes[0].step(alive{nodes[0].core.peers[0].link, false, false})
			}
		}
		live(stuckLimit)
		require.Len(s.t, nodes[0].core.peers, 1)
		require.Empty(s.t, nodes[1].core.peers)
		live(2*talkEvery + tickEvery)
		require.Empty(s.t, nodes[0].core.peers, "but not for long, where no message comes")
	})
}

func TestSilenceIsBornLongerWhereMuchIsLost(t *testing.T) {
	for lossy, want := range map[bool]struct {
		limit time.Duration
		pings int
	}{false: {answerLimit, 3}, true: {lossyLimit, 8}} {
		r := newRig(t, idOf(1))
		r.link(idOf(2))
		r.step(alive{r.links[idOf(2)], false, lossy})
		pings := 0
		for r.c.peer(idOf(2)) != nil && r.now.Before(epoch.Add(time.Minute)) {
			r.now = r.now.Add(tickEvery)
			pings += len(sentTo[ping](r, idOf(2), r.step(tick{})))
		}
		require.InDelta(t, pingSoon+want.limit, r.now.Sub(epoch), float64(2*tickEvery))
		require.Equal(t, want.pings, pings)
	}
}

func TestLossIsJudgedByTheLastPackets(t *testing.T) {
	var l linked
	require.False(t, l.loses(epoch, link.Packets{Sent: judgeAfter - 1, Lost: judgeAfter - 1}), "too few to tell")
	require.False(t, l.loses(epoch, link.Packets{Sent: 1000, Lost: 49}))
	require.True(t, l.loses(epoch, link.Packets{Sent: 1100, Lost: 54}))
	require.True(t, l.loses(epoch.Add(lossyFor-1), link.Packets{Sent: 1200, Lost: 54}), "it was, a moment ago")
	require.False(t, l.loses(epoch.Add(lossyFor), link.Packets{Sent: 1200, Lost: 54}))
	require.False(t, l.loses(epoch.Add(lossyFor), link.Packets{Sent: 1300, Lost: 30}), "it was only late")
}

func TestStoppedNodeRejoins(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(5, demo)
		nodes[1].announce(demoGroup, 2)
		s.run(100 * time.Millisecond)
		s.stable = false
		nodes[1].stall(8 * time.Second)
		s.run(7 * time.Second)
		require.Empty(s.t, nodes[0].view(demo))
		s.run(time.Second)
		s.until(5*time.Second, "rejoined", s.converged)
	})
}

func TestRestartedNodeReplacesItsOldSelf(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(4, demo)
		nodes[0].announce(demoGroup, 1)
		nodes[1].announce(demoGroup, 1)
		s.run(100 * time.Millisecond)
		nodes[1].kill()
		again := s.start(demo)
		again.announce(demoGroup, 5)
		again.offer(nodes[0])
		s.until(2*time.Second, "the old self is gone and the new one there", s.converged)
		require.Equal(s.t, 5, nodes[3].view(demo)[again.id])
	})
}

func TestPartitionHeals(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(10, demo)
		for _, n := range nodes {
			n.announce(demoGroup, 1)
		}
		s.stable = false
		side := func(n *simNode) bool { return slices.Index(nodes, n) < 4 }
		s.cut = func(a, b *simNode) bool { return side(a) != side(b) }
		s.run(time.Duration(5+s.rng.IntN(40)) * time.Second)
		require.Len(s.t, nodes[0].view(demo), 3, "each side serves what it has")
		require.Len(s.t, nodes[9].view(demo), 5)
		nodes[0].announce(demoGroup, 9)

		s.heal()
		s.t.Log("healed after", s.until(10*time.Second, "rejoined", s.converged))
	})
}

func TestLeavingNodeIsGoneFromViewsBeforeItsLinksAre(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		nodes := s.mesh(4, demo)
		nodes[2].announce(demoGroup, 3)
		s.run(50 * time.Millisecond)

		nodes[2].step(leave{nodes[2].lastBatch + 1})
		nodes[2].announced[nodes[2].lastBatch+1] = simAnnouncement{}
		s.run(50 * time.Millisecond)
		require.NotContains(s.t, nodes[2].announced, nodes[2].lastBatch+1, "confirmed")
		for _, n := range nodes {
			require.Empty(s.t, n.views[demo])
			require.Len(s.t, n.core.peers, 3)
		}

		nodes[2].kill()
		s.run(3 * time.Second)
		require.True(s.t, s.converged())
		require.NotContains(s.t, nodes[0].core.contacts, nodes[2].id, "nobody dials it again")
	})
}

func TestSettledWaitsForCandidatesAndTheirRecords(t *testing.T) {
	simulate(t, 10, func(s *sim) {
		nodes := s.mesh(5, demo)
		nodes[4].announce(demoGroup, 1)
		s.run(100 * time.Millisecond)

		late := s.start(demo)
		late.offer(nodes[0])
		late.step(settle{})
		require.False(s.t, late.settled)
		s.until(2*time.Second, "settled", func() bool { return late.settled })
		s.until(100*time.Millisecond, "shown", func() bool { return late.view(demo)[nodes[4].id] == 1 })
	})
}

func TestSettledAtOnceWhenAlone(t *testing.T) {
	simulate(t, 1, func(s *sim) {
		n := s.start()
		n.step(settle{})
		require.True(s.t, n.settled)
	})
}

func TestSettledThoughACandidateIsDead(t *testing.T) {
	simulate(t, 5, func(s *sim) {
		dead := s.start()
		dead.kill()
		n := s.start()
		n.offer(dead)
		n.step(settle{})
		require.False(s.t, n.settled)
		s.until(2*time.Second, "settled after the first dial failed", func() bool { return n.settled })
	})
}

func TestViewsConvergeAfterChaos(t *testing.T) {
	simulate(t, 15, func(s *sim) {
		s.latency = func(_, _ *simNode) time.Duration { return time.Duration(s.rng.Int64N(int64(40 * time.Millisecond))) }
		nodes := s.mesh(8, demo, other)
		s.stable = false
		for range 150 {
			s.chaos(nodes)
			s.run(time.Duration(s.rng.Int64N(int64(200 * time.Millisecond))))
		}
		s.heal()
		for i, n := range nodes {
			n.offer(nodes[(i+1)%len(nodes)]) // discovery never stops
		}
		s.until(12*time.Second, "views converge after the last change", s.converged)
		s.run(dialTimeout + time.Second) // the last dial to a dead keeper may still be under way
		for _, n := range s.alive() {
			require.Empty(s.t, n.announced, "everything was confirmed in the end")
		}
	})
}

// chaos lets one thing happen.
func (s *sim) chaos(nodes []*simNode) {
	i := s.rng.IntN(len(nodes))
	n := nodes[i]
	switch s.rng.IntN(12) {
	case 0:
		s.breakLink()
	case 1:
		n.stall(time.Duration(s.rng.Int64N(int64(2 * time.Second))))
	case 2: // restart, known to its neighbour
		n.kill()
		nodes[i] = s.start(demo, other)
		nodes[i].offer(nodes[(i+1)%len(nodes)])
	case 3:
		s.cut = func(a, b *simNode) bool { return (a == n) != (b == n) }
	case 4, 5:
		s.heal()
	default:
		if s.now.After(n.stalled) {
			n.announce([]Group{demoGroup, otherGroup}[s.rng.IntN(2)], uint32(s.rng.IntN(4)))
		}
	}
}
