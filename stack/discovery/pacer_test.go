package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPacerNeverExceedsItsRateInAnyTime(t *testing.T) {
	p := pacer{interval: 10 * time.Millisecond, burst: 5}
	now := testEpoch
	var events []time.Time
	for i := range 5000 {
		now = now.Add(time.Duration(mix(uint64(i)) % uint64(40*time.Millisecond)))
		for p.allow(now) {
			events = append(events, now)
		}
	}
	for i := range events {
		if last := i + 5; last < len(events) {
			require.GreaterOrEqual(t, events[last].Sub(events[i]), 10*time.Millisecond)
		}
		if last := i + 105; last < len(events) {
			require.GreaterOrEqual(t, events[last].Sub(events[i]), 101*10*time.Millisecond)
		}
	}
}

func TestPacerSaysExactlyHowLongToWait(t *testing.T) {
	p := pacer{interval: 3 * time.Nanosecond}
	now := testEpoch
	for range 100 {
		require.True(t, p.allow(now))
		wait := p.wait(now)
		require.Equal(t, 3*time.Nanosecond, wait)
		require.False(t, p.allow(now.Add(wait-1)))
		now = now.Add(wait)
	}
}

func TestConvergenceWaitsForQuietButNotForEver(t *testing.T) {
	var c convergence
	_, ok := c.at()
	require.False(t, ok)
	c.news = testEpoch
	_, ok = c.at()
	require.False(t, ok, "not swept")
	for _, row := range []struct{ swept, news, want time.Duration }{
		{400, 0, 550},
		{400, 390, 550},
		{400, 500, 650},
		{400, 1200, 1350},
		{400, 1300, 1400},
		{400, 9000, 1400},
	} {
		c.swept = testEpoch.Add(row.swept * time.Millisecond)
		c.news = testEpoch.Add(row.news * time.Millisecond)
		at, ok := c.at()
		require.True(t, ok)
		require.Equal(t, row.want*time.Millisecond, at.Sub(testEpoch))
	}
}
