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
	// dropsEvery is how often a slow client is logged, and how long it must miss nothing to have recovered.
	dropsEvery = time.Minute
)

// A pulse is what the watch remembers of a session. Owned by the watch.
type pulse struct {
	quiet  time.Time // since when nothing was heard; zero before the first look
	pinged bool

	missed   uint64    // messages, when the watch last looked
	missedAt time.Time // when it was seen to miss some; zero while it keeps up
	toldAt   time.Time // when that was last logged
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

// tellDrops logs a client that misses messages because it is slow, now and then,
// and when it has recovered.
func (s *Session) tellDrops(now time.Time) {
	s.mu.Lock()
	dropped, cluster := s.dropped, s.cluster
	s.mu.Unlock()
	p := &s.pulse
	log, text := s.server.log.Warn, "slow client: it misses messages; let it handle them faster, or subscribe to less"
	switch missed := dropped.missed(); {
	case missed != p.missed:
		p.missed, p.missedAt = missed, now
		if now.Sub(p.toldAt) < dropsEvery {
			return
		}
		p.toldAt = now
	case !p.missedAt.IsZero() && now.Sub(p.missedAt) >= dropsEvery:
		p.missedAt = time.Time{}
		log, text = s.server.log.Info, "slow client has recovered: it misses nothing any more"
	default:
		return
	}
	log(text, "conn", s.id, "cluster", cluster, "events", dropped.events, "broadcasts", dropped.broadcasts, "replies", dropped.replies)
}
