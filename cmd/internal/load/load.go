// Package load applies load and measures it: closed loop (a number of operations
// in flight) or open loop (a rate, whatever the answers do), for a time, with the
// latencies in a histogram. A run is bounded in time and ends by itself.
package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// longest is the greatest latency that is told apart from greater ones.
	longest = 10 * time.Minute
	digits  = 3 // significant, of latencies
)

// Config says what load to apply.
type Config struct {
	InFlight int           // operations at once, at least 1. With a rate: at most
	Rate     float64       // operations a second; 0: as fast as InFlight allows
	Duration time.Duration // how long what is measured counts
	WarmUp   time.Duration // before that
	Progress func(done float64)
}

// A Meter collects latencies. It is safe for concurrent use.
type Meter struct {
	mu        sync.Mutex // guards the fields below
	histogram *hdrhistogram.Histogram
	counts    map[string]int // of errors, by text
}

// NewMeter returns an empty meter.
func NewMeter() *Meter {
	return &Meter{histogram: hdrhistogram.New(1, int64(longest), digits), counts: map[string]int{}}
}

// Add adds a latency.
func (m *Meter) Add(latency time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.histogram.RecordValue(int64(min(max(latency, 1), longest))) // within its range
}

// Fail counts an error.
func (m *Meter) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[err.Error()]++
}

// A Summary is what a meter has collected.
type Summary struct {
	Count  int64          `json:"count"`
	Errors map[string]int `json:"errors,omitempty"`
	Min    time.Duration  `json:"min_ns"`
	P50    time.Duration  `json:"p50_ns"`
	P90    time.Duration  `json:"p90_ns"`
	P99    time.Duration  `json:"p99_ns"`
	P999   time.Duration  `json:"p99_9_ns"`
	Max    time.Duration  `json:"max_ns"`
}

// Summary sums up.
func (m *Meter) Summary() Summary {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := func(q float64) time.Duration { return time.Duration(m.histogram.ValueAtQuantile(q)) }
	return Summary{m.histogram.TotalCount(), m.counts, time.Duration(m.histogram.Min()), at(50), at(90), at(99), at(99.9), time.Duration(m.histogram.Max())}
}

// String shows the percentiles.
func (s Summary) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(max(time.Microsecond, d/1000)) }
	return fmt.Sprintf("min %v  p50 %v  p90 %v  p99 %v  p99.9 %v  max %v", round(s.Min), round(s.P50), round(s.P90), round(s.P99), round(s.P999), round(s.Max))
}

// Run calls op again and again and meters it. The latency of an operation of an
// open loop counts from when it was due, so that a stall is not hidden by the
// operations that it kept from being sent. It returns when the time is over and no
// operation runs, or when ctx is done.
func Run(ctx context.Context, cfg Config, meter *Meter, op func(ctx context.Context) error) {
	r := run{cfg: cfg, meter: meter, op: op, began: time.Now()}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range max(1, cfg.InFlight) {
		wg.Go(func() { r.work(ctx) })
	}
	if cfg.Progress != nil {
		stop := make(chan struct{})
		var shown sync.WaitGroup
		shown.Go(func() { r.show(stop) })
		defer shown.Wait()
		defer close(stop)
	}
	wg.Wait()
}

type run struct {
	cfg   Config
	meter *Meter
	op    func(context.Context) error
	began time.Time
	next  atomic.Int64 // number of the next operation of an open loop
}

// work runs one operation after the other.
func (r *run) work(ctx context.Context) {
	counts := r.began.Add(r.cfg.WarmUp)
	end := counts.Add(r.cfg.Duration)
	for ctx.Err() == nil {
		due := time.Now()
		if r.cfg.Rate > 0 {
			n := r.next.Add(1) - 1
			due = r.began.Add(time.Duration(float64(n) / r.cfg.Rate * float64(time.Second)))
			if !sleepUntil(ctx, due) {
				return
			}
		}
		if !due.Before(end) {
			return
		}
		err := r.op(ctx)
		switch took := time.Since(due); {
		case due.Before(counts):
		case err != nil:
			r.meter.Fail(err)
		default:
			r.meter.Add(took)
		}
	}
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// show reports progress until stop is closed.
func (r *run) show(stop <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	whole := r.cfg.WarmUp + r.cfg.Duration
	for {
		select {
		case <-ticker.C:
			r.cfg.Progress(min(1, float64(time.Since(r.began))/float64(whole)))
		case <-stop:
			return
		}
	}
}
