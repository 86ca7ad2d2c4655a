package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClosedLoopKeepsItsNumberInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter := NewMeter()
		var running, most atomic.Int64
		Run(t.Context(), Config{InFlight: 4, Duration: time.Second, WarmUp: 100 * time.Millisecond}, meter, func(context.Context) error {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			return nil
		})
		s := meter.Summary()
		require.EqualValues(t, 4, most.Load())
		require.EqualValues(t, 400, s.Count, "the warm-up does not count")
		require.InDelta(t, 10*time.Millisecond, s.P50, float64(100*time.Microsecond))
	})
}

func TestOpenLoopShowsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter := NewMeter()
		n := 0
		Run(t.Context(), Config{InFlight: 1, Rate: 100, Duration: time.Second}, meter, func(context.Context) error {
			if n++; n == 50 {
				time.Sleep(200 * time.Millisecond)
			}
			return nil
		})
		s := meter.Summary()
		require.EqualValues(t, 100, s.Count, "what the stall delayed is sent all the same")
		require.InDelta(t, 200*time.Millisecond, s.Max, float64(time.Millisecond))
		require.Greater(t, s.P90, 50*time.Millisecond, "what came behind the stall was late as well")
		require.Less(t, s.P50, time.Millisecond)
	})
}

func TestErrorsAreCountedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter := NewMeter()
		Run(t.Context(), Config{InFlight: 1, Rate: 10, Duration: time.Second}, meter, func(context.Context) error { return errors.New("broken") })
		s := meter.Summary()
		require.Zero(t, s.Count)
		require.Equal(t, map[string]int{"broken": 10}, s.Errors)
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		progress := 0
		Run(ctx, Config{InFlight: 3, Rate: 1, Duration: time.Hour, Progress: func(float64) { progress++ }}, NewMeter(), func(context.Context) error { return nil })
		require.Equal(t, time.Second, time.Since(began))
		require.Positive(t, progress)
	})
}
