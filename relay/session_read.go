package relay

import (
	"errors"

	"github.com/project-iris/iris/spec/wire"
)

// errBye is the clean end: the client said bye.
var errBye = errors.New("the client said bye")

// read handles what the client sends, in turns, until the session ends.
func (s *Session) read() error {
	for {
		if !s.in.Buffered() {
			s.endTurn()
		}
		content, err := s.in.Next()
		if err != nil {
			return readError(err)
		}
		if err := s.handle(content); err != nil {
			return err
		}
	}
}

// readError tells a broken frame from a client that is gone.
func readError(err error) error {
	if reasonOf(err) != nil {
		return err
	}
	return errors.Join(errGone, err)
}

// endTurn flushes what the turn has appended to.
func (s *Session) endTurn() {
	if s.busy {
		s.busy = false
		s.port.Flush()
	}
	if s.wrote {
		s.wrote = false
		s.out.Flush()
	}
}

// handle handles one frame. An error ends the session.
func (s *Session) handle(content []byte) error {
	op, err := wire.ParseOp(content)
	if err != nil {
		return err
	}
	switch op {
	case wire.OpRequest:
		return s.request(content)
	case wire.OpReply:
		return s.reply(content)
	case wire.OpCancel:
		return s.cancel(content)
	case wire.OpBroadcast:
		return s.broadcast(content)
	case wire.OpPublish:
		return s.publish(content)
	case wire.OpSubscribe:
		return s.subscribe(content)
	case wire.OpUnsubscribe:
		return s.unsubscribe(content)
	case wire.OpOpen, wire.OpOpened, wire.OpData, wire.OpAllow, wire.OpFinish, wire.OpAbort:
		return s.handleTunnel(op, content)
	case wire.OpCredit:
		return s.addCredit(content)
	case wire.OpPing:
		return s.ping(content)
	case wire.OpPong:
		_, err := wire.ParsePong(content)
		return err
	case wire.OpDrain:
		return s.withdraw(content)
	case wire.OpBye:
		if _, _, err := wire.ParseBye(content); err != nil {
			return err
		}
		return errBye
	}
	return unexpected(op.String() + " is not for the node, or not now")
}

// handleTunnel handles a frame of a tunnel.
func (s *Session) handleTunnel(op wire.Op, content []byte) error {
	switch op {
	case wire.OpOpen:
		return s.openTunnel(content)
	case wire.OpOpened:
		return s.acceptTunnel(content)
	case wire.OpData:
		return s.data(content)
	case wire.OpAllow:
		return s.allow(content)
	case wire.OpFinish:
		return s.finishTunnel(content)
	}
	return s.abortTunnel(content)
}

func unexpected(text string) error { return &wire.Error{Code: wire.CodeUnexpected, Text: text} }

// request handles a request of the client's own.
func (s *Session) request(content []byte) error {
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	used, failure := s.accept(r)
	if used {
		return unexpected("a request has the id of one that is unanswered")
	}
	if e := reasonOf(failure); e != nil {
		return s.answer(r.ID, e)
	}
	s.busy = true
	s.port.Request(r)
	return nil
}

// accept makes r one of the unanswered requests, unless its id is used by one
// of them, or it fails: what it is answered then.
func (s *Session) accept(r wire.Request) (used bool, failure error) {
	limits := &s.server.cfg.Limits
	failure = limits.CheckRequest(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used = s.unanswered[r.ID]; used {
		return true, nil
	}
	if s.server.leaving.Load() { // looked at under mu: Drain sees the request or is seen here
		failure = &wire.Error{Code: wire.CodeClosing, Text: "the node is leaving"}
	}
	if failure == nil {
		failure = limits.CheckUnanswered(len(s.unanswered))
	}
	if failure != nil {
		return false, failure
	}
	if s.unanswered == nil {
		s.unanswered = make(map[uint64]struct{})
	}
	s.unanswered[r.ID] = struct{}{}
	return false, nil
}

// reply handles the answer to a request that the service was given. One to
// another request is ignored: it may have crossed.
func (s *Session) reply(content []byte) error {
	r, err := wire.ParseReply(content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	_, known := s.given[r.ID]
	s.mu.Unlock()
	if !known {
		return nil
	}
	s.busy = true
	s.port.Reply(s.lawful(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.given, r.ID) // only now: a Drain that sees it gone may count on the reply
	s.wrote = s.wrote || s.drain != notDraining
	s.settleLocked()
	return nil
}

// lawful is r, or what its requester gets in place of a reply that breaks a
// rule. relay.md 4.4, 5.4.
func (s *Session) lawful(r wire.Reply) wire.Reply {
	if e := reasonOf(s.server.cfg.Limits.CheckReply(r)); e != nil {
		return wire.Reply{ID: r.ID, Code: wire.CodeFailed, Text: []byte(e.Text)}
	}
	if r.Code != wire.CodeOK && r.Code != wire.CodeFailed {
		return wire.Reply{ID: r.ID, Code: wire.CodeFailed, Text: []byte("the service replied with " + r.Code.String() + ", which is not for services")}
	}
	return r
}

// cancel handles the client's giving up a request. One that is not unanswered
// is ignored: the reply has crossed.
func (s *Session) cancel(content []byte) error {
	id, err := wire.ParseCancel(content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	_, known := s.unanswered[id]
	s.mu.Unlock()
	if known {
		s.busy = true
		s.port.Cancel(id)
	}
	return nil
}

// addCredit handles a client's readiness for more messages of a kind: requests and
// broadcasts are for services. relay.md 5.5.
func (s *Session) addCredit(content []byte) error {
	kind, n, err := wire.ParseCredit(content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case kind >= uint32(len(s.credit)):
		return unexpected("credit of an unknown kind")
	case kind != wire.KindEvent && s.cluster == "":
		return unexpected("credit from a client that is no service")
	}
	s.credit[kind], err = wire.AddCredit(s.credit[kind], n)
	return err
}

func (s *Session) ping(content []byte) error {
	token, err := wire.ParsePing(content)
	if err != nil {
		return err
	}
	return s.say(smallFrame, func(b []byte) []byte { return wire.AppendPong(b, token) })
}

// withdraw handles a service's wish for no more requests.
func (s *Session) withdraw(content []byte) error {
	if err := wire.ParseDrain(content); err != nil {
		return err
	}
	s.mu.Lock()
	allowed := s.cluster != "" && s.drain == notDraining
	s.drain = max(s.drain, withdrawing)
	s.mu.Unlock()
	if !allowed {
		return unexpected("drain from what is no service, or no longer")
	}
	s.busy = true
	s.port.Drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain = finishing
	s.wrote = true
	s.settleLocked()
	return nil
}

// answer answers a request that does not go further.
func (s *Session) answer(id uint64, why *wire.Error) error {
	r := wire.Reply{ID: id, Code: why.Code, Text: []byte(why.Text)}
	return s.say(r.Size(), func(b []byte) []byte { return wire.AppendReply(b, r) })
}

// say appends a frame of the reader's own, of at most size bytes. A client that sends but
// leaves no room for what it gets is ended.
func (s *Session) say(size int, appendTo func([]byte) []byte) error {
	b, err := s.out.Begin(size)
	if err != nil {
		return &wire.Error{Code: wire.CodeUnresponsive, Text: "the client does not read"}
	}
	s.out.Commit(appendTo(b))
	s.wrote = true
	return nil
}
