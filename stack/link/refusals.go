package link

import (
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"
)

// refusalPause is how long a reason is not logged again.
const refusalPause = time.Minute

// refusals counts the handshakes that were turned away, by reason, and logs each
// reason once a minute at most, so that a stranger cannot fill the log.
type refusals struct {
	log *slog.Logger

	mu     sync.Mutex // guards the fields below
	counts map[string]uint64
	logged map[string]time.Time
}

// add counts a refusal. The words are a closed list, which bounds the maps.
func (r *refusals) add(e *RefusedError, addr netip.AddrPort) {
	now := time.Now()
	r.mu.Lock()
	r.counts[e.Word]++
	count := r.counts[e.Word]
	last, again := r.logged[e.Word]
	quiet := again && now.Sub(last) < refusalPause
	if !quiet {
		r.logged[e.Word] = now
	}
	r.mu.Unlock()
	if !quiet {
		r.log.Warn("link refused", "reason", e.Word, "addr", addr, "count", count, "err", e)
	}
}

// all gives a copy of the counts.
func (r *refusals) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
