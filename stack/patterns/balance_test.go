package patterns_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// load has workers send requests one after another, each until it has sent each.
func load(t *testing.T, c *session, workers, each int) {
	t.Helper()
	answers := make(chan uint64, workers)
	c.mu.Lock()
	c.onReply = func(id uint64) { answers <- id }
	c.mu.Unlock()
	for w := range workers {
		c.send(uint64(w*each), time.Hour)
	}
	for range workers * each {
		if id := <-answers; id%uint64(each) != uint64(each-1) {
			c.send(id+1, time.Hour)
		}
	}
	synctest.Wait()
	c.mu.Lock()
	c.onReply = nil
	c.replies = make(map[uint64][]patterns.Reply)
	c.mu.Unlock()
}

func shares(services []*session) []int {
	var all []int
	for _, s := range services {
		all = append(all, s.count())
		s.served = nil
	}
	return all
}

// requireShares checks the counts against weights, within a tolerance in percent.
func requireShares(t *testing.T, counts []int, percent float64, weights ...int) {
	t.Helper()
	total, sum := 0, 0
	for i, c := range counts {
		total += c
		sum += weights[i]
	}
	for i, c := range counts {
		want := float64(total*weights[i]) / float64(sum)
		require.InEpsilon(t, want, float64(c), percent/100, "member %d of %v", i, counts)
	}
}

func TestEqualMembersGetEqualShares(t *testing.T) {
	for _, workers := range []int{1, 4, 64} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(workers, " in flight, seed ", seed+1), func(t *testing.T) {
				inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
					a := w.hostOf(patterns.Config{Seed: seed + 1}, 1)
					var members []*session
					for _, h := range w.hosts(2, 3, 4, 5) {
						members = append(members, h.slow(time.Millisecond))
					}
					load(t, a.client(), workers, 1600/workers)
					requireShares(t, shares(members), 5, 1, 1, 1, 1)
				})
			})
		}
	}
}

func TestManyEqualMembersGetEqualShares(t *testing.T) {
	for workers, percent := range map[int]float64{1: 5, 48: 20} {
		inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
			a := w.host(1)
			var members []*session
			for name := byte(2); name < 14; name++ {
				members = append(members, w.host(name).slow(time.Millisecond))
			}
			load(t, a.client(), workers, 4800/workers)
			requireShares(t, shares(members), percent, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
		})
	}
}

func TestEqualLocalMembersGetEqualShares(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a := w.host(1)
		members := []*session{a.slow(time.Millisecond), a.slow(time.Millisecond), a.slow(time.Millisecond)}
		load(t, a.client(), 1, 900)
		requireShares(t, shares(members), 5, 1, 1, 1)
		load(t, a.client(), 30, 30)
		requireShares(t, shares(members), 5, 1, 1, 1)
	})
}

func TestNodeWithMoreMembersGetsMore(t *testing.T) {
	for _, workers := range []int{1, 60} {
		inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
			a, b, c := w.host(1), w.host(2), w.host(3)
			members := []*session{b.slow(time.Millisecond), c.slow(time.Millisecond), c.slow(time.Millisecond), c.slow(time.Millisecond)}
			load(t, a.client(), workers, 2400/workers)
			requireShares(t, shares(members), 10, 1, 1, 1, 1)
		})
	}
}

func TestSlowMemberGetsProportionallyLess(t *testing.T) {
	for _, workers := range []int{1, 64} {
		inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
			a := w.host(1)
			hosts := w.hosts(2, 3, 4, 5)
			members := []*session{hosts[0].slow(10 * time.Millisecond)}
			for _, h := range hosts[1:] {
				members = append(members, h.slow(time.Millisecond))
			}
			load(t, a.client(), workers, 3200/workers)
			got := shares(members)
			require.Less(t, got[0], 3200/3/5, "%v", got)
			require.Greater(t, got[0], 5, "it is still tried: %v", got)
			requireShares(t, got[1:], 10, 1, 1, 1)
		})
	}
}

func TestMemberThatIsFastAgainGetsItsShareAgain(t *testing.T) {
	inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
		a := w.host(1)
		slow, fast := w.host(2).slow(50*time.Millisecond), w.host(3).slow(time.Millisecond)
		members := []*session{slow, fast}
		c := a.client()
		load(t, c, 1, 500)
		require.Less(t, shares(members)[0], 30)
		slow.onRequest = func(turn *link.Turn, r patterns.Request) {
			r.Payload = nil
			time.AfterFunc(time.Millisecond, func() { turn := new(link.Turn); slow.reply(turn, r); turn.End() })
		}
		load(t, c, 1, 3000) // time to find out
		shares(members)
		load(t, c, 1, 1000)
		requireShares(t, shares(members), 5, 1, 1)
	})
}

func TestNewMemberIsNotFlooded(t *testing.T) {
	inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
		a, b, d := w.host(1), w.host(2), w.host(3)
		old, c := b.slow(time.Millisecond), a.client()
		load(t, c, 1, 1000)
		members := []*session{old, d.slow(time.Millisecond)}
		shares(members)
		load(t, c, 1, 20)
		requireShares(t, shares(members), 10, 1, 1)
	})
}

func TestLocalMemberIsPreferredWhileNotBusier(t *testing.T) {
	inWorld(t, 50*time.Microsecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		members := []*session{a.slow(time.Millisecond), b.slow(time.Millisecond)}
		c := a.client()
		load(t, c, 1, 100)
		require.Equal(t, []int{100, 0}, shares(members))
		load(t, c, 20, 50)
		requireShares(t, shares(members), 15, 1, 1)
	})
}

func TestDeadMemberIsLeftOut(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b, d := w.host(1), w.host(2), w.host(3)
		b.slow(time.Millisecond)
		alive, c := d.slow(time.Millisecond), a.client()
		load(t, c, 1, 100)
		w.net.Kill(b.id)
		synctest.Wait()
		shares([]*session{alive})
		load(t, c, 1, 100)
		require.Equal(t, []int{100}, shares([]*session{alive}))
	})
}
