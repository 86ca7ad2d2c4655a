package discovery

import "time"

// A pacer spaces events: one per interval on average, and up to burst of them
// at once after a rest. It counts in whole nanoseconds and never allows more
// than burst + d/interval events in any time d. The zero burst is 1.
type pacer struct {
	interval time.Duration
	burst    int
	due      time.Time // when the next event is due at even spacing
}

// wait is how long the next event has to wait, 0 if it may happen now.
func (p *pacer) wait(now time.Time) time.Duration {
	slack := time.Duration(max(p.burst, 1)-1) * p.interval
	return max(0, p.due.Add(-slack).Sub(now))
}

// take records an event.
func (p *pacer) take(now time.Time) {
	if p.due.Before(now) {
		p.due = now
	}
	p.due = p.due.Add(p.interval)
}

// allow takes an event if it may happen now.
func (p *pacer) allow(now time.Time) bool {
	if p.wait(now) > 0 {
		return false
	}
	p.take(now)
	return true
}
