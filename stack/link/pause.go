package link

import (
	"maps"
	"sync"
	"time"
)

// brokenPause is how long a peer that broke the rules gets no new link.
const brokenPause = 10 * time.Second

// maxPaused bounds the memory for such peers. Who makes itself more ids than that
// holds the network's key, and is let through.
const maxPaused = 256

// pauses remembers the peers that broke the rules of links.
type pauses struct {
	mu    sync.Mutex // guards the fields below
	until map[ID]time.Time
}

// begin starts the pause of a peer.
func (p *pauses) begin(id ID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.until, func(_ ID, until time.Time) bool { return !now.Before(until) })
	if p.until == nil {
		p.until = make(map[ID]time.Time)
	}
	if len(p.until) < maxPaused {
		p.until[id] = now.Add(brokenPause)
	}
}

// lasts tells whether the pause of a peer is not over.
func (p *pauses) lasts(id ID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.until[id])
}
