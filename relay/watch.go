package relay

import (
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// watchInterval is how often sessions are looked at: a limit below is noticed up to one interval late.
	watchInterval = time.Second
	// silence is how long a client may say nothing before it is pinged, and then again before it is given up.
	silence = 15 * time.Second
	// maxStall is how long a client may read nothing although something waits for it.
	maxStall = 15 * time.Second
	// dropsEvery is how often a slow client is logged.
	dropsEvery = time.Minute
)

// A pulse is what the watch remembers of a session. Owned by the watch.
type pulse struct {
	quiet  time.Time // since when nothing was heard; zero before the first look
	pinged bool

	told   uint64    // messages that it missed, as logged last
	toldAt time.Time // when
}

// watch looks at all sessions at intervals, so that none needs a timer or
// goroutine for it, until the Server is closed.
func (s *Server) watch() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, session := range s.all() {
				session.check(now)
			}
		case <-s.done:
			return
		}
	}
}

// check ends the session of a client that has fallen silent or does not read.
// Only the watch calls it.
func (s *Session) check(now time.Time) {
	if !s.attached() {
		return // the handshake has a deadline of its own
	}
	s.tellDrops(now)
	if s.heard.Swap(false) || s.pulse.quiet.IsZero() {
		s.pulse.quiet, s.pulse.pinged = now, false
	}
	switch quiet := now.Sub(s.pulse.quiet); {
	case s.out.Stalled(now) >= maxStall:
		s.end(&wire.Error{Code: wire.CodeUnresponsive, Text: "the client does not read"})
	case quiet >= 2*silence:
		s.end(&wire.Error{Code: wire.CodeUnresponsive, Text: "nothing was heard from the client, not even a pong"})
	case quiet >= silence && !s.pulse.pinged:
		s.pulse.pinged = true
		s.rest()
	}
}

// tellDrops logs a client that misses messages because it is slow, now and then.
func (s *Session) tellDrops(now time.Time) {
	s.mu.Lock()
	missed, cluster := s.dropped, s.cluster
	s.mu.Unlock()
	p := &s.pulse
	if missed.total() == p.told || now.Sub(p.toldAt) < dropsEvery {
		return
	}
	s.server.log.Warn("slow client: it misses messages; let it handle them faster, or subscribe to less",
		"conn", s.id, "cluster", cluster, "events", missed.events, "broadcasts", missed.broadcasts, "replies", missed.replies)
	p.told, p.toldAt = missed.total(), now
}
