package relay

import (
	"github.com/project-iris/iris/spec/wire"
)

// smallFrame is enough for any frame without a payload, headers or long text.
const smallFrame = 128

// PushRequest gives the service a request, and uses up one of its credits;
// false means that it has none, is draining or ending, or does not read:
// nothing was done then.
func (s *Session) PushRequest(r wire.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil || s.credit[wire.KindRequest] == 0 || s.drain != notDraining || s.server.leaving.Load() || len(s.given) >= maxGiven {
		return false
	}
	if _, known := s.given[r.ID]; known {
		return false
	}
	b, err := s.begin(r.Size())
	if err != nil {
		return false
	}
	s.out.Commit(wire.AppendRequest(b, r))
	s.credit[wire.KindRequest]--
	if s.given == nil {
		s.given = make(map[uint64]struct{})
	}
	s.given[r.ID] = struct{}{}
	return true
}

// PushReply gives the client the outcome of its request; nothing happens if it
// has one already. An outcome that does not fit because the client does not
// read is replaced by a short one and counted as dropped; a client that leaves
// no room even for that is ended as unresponsive.
func (s *Session) PushReply(r wire.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return
	}
	if _, known := s.unanswered[r.ID]; !known {
		return
	}
	delete(s.unanswered, r.ID)
	b, err := s.begin(r.Size())
	if err != nil {
		s.dropped.replies++
		r = dropped(r)
		b, err = s.out.Begin(smallFrame)
	}
	if err != nil {
		_ = s.endLocked(&wire.Error{Code: wire.CodeUnresponsive, Text: "the client does not read"})
		return
	}
	s.out.Commit(wire.AppendReply(b, r))
	s.settleLocked()
}

// dropped is what a client gets in place of a reply that it left no room for.
// Its request was executed, so that overloaded would be a lie that makes it
// executed twice.
func dropped(r wire.Reply) wire.Reply {
	code := r.Code
	if code == wire.CodeOK || code == wire.CodeFailed {
		code = wire.CodeLost
	}
	return wire.Reply{ID: r.ID, Code: code, Text: []byte("the reply was dropped: the client does not read")}
}

// PushCancel tells the service that a request it was given is no longer
// wanted, and forgets that request: relay.md 5.9. A service that does not read
// is not told.
func (s *Session) PushCancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.given[id]; !known || s.reason != nil {
		return
	}
	delete(s.given, id)
	if b, err := s.begin(smallFrame); err == nil {
		s.out.Commit(wire.AppendCancel(b, id))
	}
	s.settleLocked()
}

// Flush writes what was pushed.
func (s *Session) Flush() { s.out.Flush() }

// begin starts a frame below outputLimit. s.mu must be held; Commit must follow
// at once.
func (s *Session) begin(size int) ([]byte, error) {
	if s.out.Pending()+size > outputLimit {
		return nil, wire.ErrFull
	}
	return s.out.Begin(size)
}

// pushLeaving tells the client that the node is going away.
func (s *Session) pushLeaving() {
	if !s.attached() {
		return
	}
	if b, err := s.out.Begin(smallFrame); err == nil {
		s.out.Commit(wire.AppendLeaving(b))
		s.out.Flush()
	}
}

// rest pings a client that has been silent, and gives back the memory that its
// busy times needed.
func (s *Session) rest() {
	s.mu.Lock()
	if len(s.unanswered) == 0 {
		s.unanswered = nil
	}
	if len(s.given) == 0 {
		s.given = nil
	}
	if len(s.topics) == 0 {
		s.topics = nil
	}
	if len(s.tunnels) == 0 {
		s.tunnels = nil
	}
	s.mu.Unlock()
	if b, err := s.out.Begin(smallFrame); err == nil {
		s.out.Commit(wire.AppendPing(b, s.id))
		s.out.Flush()
	}
}
