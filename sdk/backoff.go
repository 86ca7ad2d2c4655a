package iris

import (
	"math/rand/v2"
	"time"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// A backoff spaces the attempts to attach again: from 50 ms doubling to 1 s,
// each shortened at random by up to a half so that the clients of a node that
// restarts do not come all at once. The zero backoff is ready.
type backoff struct {
	pause time.Duration
}

// next is how long to wait before the next attempt.
func (b *backoff) next() time.Duration {
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	return b.pause/2 + rand.N(b.pause/2)
}
