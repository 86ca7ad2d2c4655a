package relay

import (
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// installTime is how long a subscribe waits for other nodes. relay.md 9.3.
	installTime = time.Second
	// maxInstalling bounds the goroutines of a session that wait for that; beyond,
	// its reader waits.
	maxInstalling = 1024
)

// subscribe handles the wish for the events of a topic. relay.md 9.3.
func (s *Session) subscribe(content []byte) error {
	id, topic, err := wire.ParseSubscribe(content)
	if err != nil {
		return err
	}
	if e := reasonOf(s.enlist(topic)); e != nil {
		return s.done(id, e.Code, e.Text)
	}
	installed := s.port.Subscribe(topic)
	if installed == nil {
		s.strike(topic)
		return s.done(id, wire.CodeInvalid, "the node does not take the topic")
	}
	select {
	case <-installed:
		return s.done(id, wire.CodeOK, "")
	default:
	}
	if s.installing.Load() >= maxInstalling {
		s.endTurn() // others need not wait for what the turn has appended
		s.awaitInstalled(installed)
		return s.done(id, wire.CodeOK, "")
	}
	s.installing.Add(1)
	s.waits.Go(func() {
		defer s.installing.Add(-1)
		s.awaitInstalled(installed)
		s.pushDone(id)
	})
	return nil
}

// enlist notes a topic, so that events may come from now on.
func (s *Session) enlist(topic []byte) error {
	limits := &s.server.cfg.Limits
	if err := limits.CheckTopic(topic); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.topics[string(topic)]; known {
		return &wire.Error{Code: wire.CodeInvalid, Text: "the topic is subscribed already"}
	}
	if err := limits.CheckSubscriptions(len(s.topics)); err != nil {
		return err
	}
	if s.topics == nil {
		s.topics = make(map[string]struct{})
	}
	if s.gone == nil {
		s.gone = make(chan struct{})
	}
	s.topics[string(topic)] = struct{}{}
	return nil
}

// strike forgets a topic and tells whether it was there.
func (s *Session) strike(topic []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.topics[string(topic)]
	delete(s.topics, string(topic))
	return known
}

// awaitInstalled waits until a subscription is effective, for a while.
func (s *Session) awaitInstalled(installed <-chan struct{}) {
	timer := time.NewTimer(installTime)
	defer timer.Stop()
	select {
	case <-installed:
	case <-timer.C:
	case <-s.gone:
	case <-s.server.done:
	}
}

// pushDone tells that a subscription is effective. A client that leaves no room
// for that is ended.
func (s *Session) pushDone(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return
	}
	b, err := s.out.Begin(smallFrame)
	if err != nil {
		_ = s.endLocked(&wire.Error{Code: wire.CodeUnresponsive, Text: "the client does not read"})
		return
	}
	s.out.Commit(wire.AppendDone(b, id, wire.CodeOK, ""))
	s.out.Flush()
}

// unsubscribe ends the events of a topic. relay.md 9.4.
func (s *Session) unsubscribe(content []byte) error {
	id, topic, err := wire.ParseUnsubscribe(content)
	if err != nil {
		return err
	}
	if !s.strike(topic) {
		return s.done(id, wire.CodeInvalid, "the topic is not subscribed")
	}
	s.port.Unsubscribe(topic)
	return s.done(id, wire.CodeOK, "")
}
