package link

import (
	"sync"
	"time"
)

// A limiter is a token bucket: so many at once, so many a second. It is safe for
// concurrent use.
type limiter struct {
	burst, perSecond float64

	mu    sync.Mutex // guards the fields below
	spent float64
	last  time.Time
}

// allow takes a token if there is one.
func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = max(0, l.spent-now.Sub(l.last).Seconds()*l.perSecond)
	l.last = now
	if l.spent+1 > l.burst {
		return false
	}
	l.spent++
	return true
}
