package patterns

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWheelYieldsWhatIsDueAndNothingElse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	w := wheel{armed: never}
	var now time.Duration
	pending := make(map[*entry]bool)
	for range 20000 {
		switch rng.IntN(4) {
		case 0, 1:
			e := &entry{deadline: now + time.Duration(rng.Int64N(int64([]time.Duration{20 * time.Millisecond, time.Second, 40 * time.Second}[rng.IntN(3)])))}
			w.add(e)
			pending[e] = true
		case 2:
			for e := range pending {
				w.remove(e)
				delete(pending, e)
				break
			}
		default:
			now += time.Duration(rng.Int64N(int64([]time.Duration{time.Millisecond, 100 * time.Millisecond, 30 * time.Second}[rng.IntN(3)])))
			for e := w.due(now); e != nil; e = w.due(now) {
				require.LessOrEqual(t, e.deadline, now, "early")
				require.True(t, pending[e])
				w.remove(e)
				delete(pending, e)
			}
			next := w.next()
			for e := range pending {
				require.Greater(t, e.deadline+2*wheelTick, now, "late")
				require.LessOrEqual(t, next, e.tick, "overslept")
			}
			require.Equal(t, len(pending) == 0, next == never)
		}
	}
}

func TestWheelWakesOnlyForAnEarlierDeadline(t *testing.T) {
	w := wheel{armed: never}
	first := &entry{deadline: time.Second}
	require.True(t, w.add(first))
	w.remove(first)
	require.False(t, w.add(&entry{deadline: time.Second + 1}))
	require.True(t, w.add(&entry{deadline: time.Second / 2}))
}

func TestSlabNeverHandsOutAnIDTwice(t *testing.T) {
	s := slab{limit: 600}
	ids := make(map[uint64]bool)
	for range 3 {
		var all []*entry
		for e := s.alloc(); e != nil; e = s.alloc() {
			require.False(t, ids[e.id])
			require.NotZero(t, e.id>>indexBits)
			ids[e.id] = true
			require.Same(t, e, s.find(e.id))
			all = append(all, e)
		}
		require.Len(t, all, 600)
		for _, e := range all {
			id := e.id
			s.release(e)
			require.Nil(t, s.find(id))
			require.Nil(t, s.find(e.id), "not handed out yet")
		}
	}
	require.Nil(t, s.find(1<<64-1))
	require.Zero(t, s.used)
}

func TestChainKeepsItsOrder(t *testing.T) {
	var c chain
	a, b, d := &entry{id: 1}, &entry{id: 2}, &entry{id: 3}
	ids := func() (all []uint64) {
		for e := c.head; e != nil; e = e.hooks[hookPlace].next {
			all = append(all, e.id)
		}
		return all
	}
	for _, e := range []*entry{a, b, d} {
		c.push(hookPlace, e)
	}
	require.Equal(t, []uint64{1, 2, 3}, ids())
	c.remove(hookPlace, b)
	c.push(hookPlace, b)
	require.Equal(t, []uint64{1, 3, 2}, ids())
	c.remove(hookPlace, b)
	c.remove(hookPlace, a)
	require.Equal(t, []uint64{3}, ids())
	c.remove(hookPlace, d)
	require.Equal(t, chain{}, c)
}

func TestSeenIsBoundedByTheIndex(t *testing.T) {
	var s seen
	require.True(t, s.first(1<<64-1))
	require.False(t, s.first(1<<64-1))
	require.Len(t, s.last, (1<<indexBits)/seenChunk)
	require.True(t, s.first(1<<indexBits))
	require.False(t, s.first(1<<indexBits))
	require.False(t, s.first(0), "no generation")
}

func TestLatencyWithinNoiseDoesNotCount(t *testing.T) {
	a := &member{latency: time.Millisecond, count: 1, inflight: 1}
	b := &member{latency: 2 * time.Millisecond, count: 1, inflight: 1}
	require.Zero(t, a.busier(b))
	b.latency++
	require.Negative(t, a.busier(b))
	b.latency = time.Hour
	require.EqualValues(t, maxRatio, b.slower(a))
	b.latency = 0
	require.Zero(t, a.busier(b), "not known yet")
}

func TestLoadIsInFlightTimesLatencyPerMember(t *testing.T) {
	fast := &member{latency: time.Millisecond, count: 1, inflight: 3}
	slow := &member{latency: 10 * time.Millisecond, count: 1, inflight: 1}
	require.Negative(t, fast.busier(slow))
	require.Positive(t, slow.busier(fast))
	many := &member{count: 3, inflight: 4}
	one := &member{count: 1, inflight: 2}
	require.Negative(t, many.busier(one))
	require.Positive(t, one.busier(many))
}

func TestMembersThatAreNearlyEquallyCrowdedTakeTurns(t *testing.T) {
	a, b := &member{count: 1, inflight: 9, pass: 2}, &member{count: 1, inflight: 6, pass: 1}
	require.Zero(t, a.crowded(b))
	require.True(t, b.before(a), "its pass is less")
	b.pass = 3
	require.True(t, a.before(b))
	a.inflight++
	require.Positive(t, a.crowded(b))
	require.False(t, a.before(b), "it holds on to too many")
	idle, two := &member{count: 1}, &member{count: 2, inflight: 1}
	require.Negative(t, idle.crowded(two), "one is more than none")
	require.Positive(t, two.crowded(idle))
}

func TestMemberLeftOutForLongIsNotFlooded(t *testing.T) {
	out := &member{at: &party{sink: deafSink{}}, count: 1}
	in := &member{at: &party{sink: deafSink{}}, count: 1}
	var p pool
	p.add(out)
	p.add(in)
	for range 1000 {
		best, other := p.pick(nil, []*party{out.at})
		require.Same(t, in, best)
		p.charge(best, other)
	}
	got := 0
	for range 40 {
		best, other := p.pick(nil, nil)
		if best == out {
			got++
		}
		p.charge(best, other)
	}
	require.InDelta(t, 25, got, 2)
}
