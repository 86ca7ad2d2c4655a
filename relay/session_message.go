package relay

import (
	"github.com/project-iris/iris/spec/wire"
)

// broadcast handles a message to the members of a cluster. relay.md 8.
func (s *Session) broadcast(content []byte) error {
	m, err := wire.ParseBroadcast(content)
	if err != nil {
		return err
	}
	failure := s.server.cfg.Limits.CheckBroadcast(m)
	return s.oneWay(m.ID, failure, func() wire.Code { return s.port.Broadcast(m) })
}

// publish handles an event for the subscribers of a topic. relay.md 9.1.
func (s *Session) publish(content []byte) error {
	m, err := wire.ParsePublish(content)
	if err != nil {
		return err
	}
	failure := s.server.cfg.Limits.CheckPublish(m)
	return s.oneWay(m.ID, failure, func() wire.Code { return s.port.Publish(m) })
}

// oneWay sends a message on its way unless it fails before, and tells the outcome
// if one is wanted: if id is not 0. relay.md 8.3.
func (s *Session) oneWay(id uint64, failure error, send func() wire.Code) error {
	if failure == nil && s.server.leaving.Load() {
		failure = &wire.Error{Code: wire.CodeClosing, Text: "the node is leaving"}
	}
	if e := reasonOf(failure); e != nil {
		return s.outcome(id, e.Code, e.Text)
	}
	s.busy = true
	return s.outcome(id, send(), "")
}

// outcome tells the outcome of a one-way message. Where none is wanted, one that the
// node has not taken is counted, so that an operator can see it.
func (s *Session) outcome(id uint64, code wire.Code, text string) error {
	if id != 0 {
		return s.done(id, code, text)
	}
	if code != wire.CodeOK && code != wire.CodeNoService {
		s.mu.Lock()
		s.dropped.refused++
		s.mu.Unlock()
	}
	return nil
}

// done tells the outcome of an operation. relay.md 8.3.
func (s *Session) done(id uint64, code wire.Code, text string) error {
	return s.say(smallFrame+len(text), func(b []byte) []byte { return wire.AppendDone(b, id, code, text) })
}

// PushBroadcast gives the service a message to its cluster and uses up one of its
// credits for them. false: it has none, or does not read; the message is dropped
// for this service and counted.
func (s *Session) PushBroadcast(m wire.Broadcast) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil || s.drain != notDraining || s.server.leaving.Load() {
		return true // nobody misses it: relay.md 6.3, 6.5
	}
	b, ok := s.spend(wire.KindBroadcast, m.Size(), &s.dropped.broadcasts)
	if ok {
		s.out.Commit(wire.AppendBroadcast(b, m))
	}
	return ok
}

// PushEvent gives the client an event of a topic that it has subscribed to, and
// uses up one of its credits for them. false as for PushBroadcast. relay.md 9.4: behind an
// unsubscribe there are none.
func (s *Session) PushEvent(m wire.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, subscribed := s.topics[string(m.Topic)]; !subscribed || s.reason != nil {
		return true // nobody misses it
	}
	b, ok := s.spend(wire.KindEvent, m.Size(), &s.dropped.events)
	if ok {
		s.out.Commit(wire.AppendEvent(b, m))
	}
	return ok
}

// spend uses up a credit for a frame of at most size bytes, and begins the frame
// if there was one and there is room; otherwise it counts the message in dropped.
// s.mu must be held.
func (s *Session) spend(kind uint32, size int, dropped *uint64) ([]byte, bool) {
	if s.credit[kind] == 0 {
		*dropped++
		return nil, false
	}
	b, err := s.begin(size)
	if err != nil {
		*dropped++
		return nil, false
	}
	s.credit[kind]--
	return b, true
}

// drops counts what a client did not get because it was too slow, and what of its
// own was refused without a word, because it wanted no outcome.
type drops struct{ replies, events, broadcasts, refused uint64 }

// missed is what it did not get.
func (d drops) missed() uint64 { return d.replies + d.events + d.broadcasts }

// byReason returns the counts that are not zero.
func (d drops) byReason() map[string]uint64 {
	var m map[string]uint64
	for reason, n := range map[string]uint64{"reply": d.replies, "event": d.events, "broadcast": d.broadcasts, "refused": d.refused} {
		if n > 0 {
			if m == nil {
				m = make(map[string]uint64)
			}
			m[reason] = n
		}
	}
	return m
}
