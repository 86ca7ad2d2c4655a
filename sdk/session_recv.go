package iris

import (
	"errors"
	"fmt"
	"io"

	"github.com/project-iris/iris/spec/wire"
)

// ctlSize bounds a ping, pong, credit, drain or cancel frame.
const ctlSize = 32

// read handles what the node sends until the session is over and returns why.
// It never waits for the application.
func (s *session) read() error {
	for {
		content, err := s.in.Next()
		if err == nil {
			err = s.handle(content)
		}
		if err != nil {
			return err
		}
		if s.conn.service == nil && s.leaving.Load() && s.tunnels.endIfIdle() && s.calls.endIfIdle() {
			return errLeft
		}
	}
}

// errLeft ends the session of a client whose node is leaving, when its requests
// are answered and its tunnels have ended. relay.md 6.5. That of a service is the node's to end.
var errLeft = errors.New("it is leaving")

// byeFor is what to say to the node when reading ended with err: nothing if it
// is gone. relay.md 6.4.
func byeFor(err error) []byte {
	var broken *wire.Error
	if errors.As(err, &broken) {
		return wire.AppendBye(nil, broken.Code, broken.Text)
	}
	if err == errLeft {
		return wire.AppendBye(nil, wire.CodeOK, "")
	}
	return nil
}

// lossReason types what ended a session.
func lossReason(err error) error {
	var broken *wire.Error
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it closed the connection", ErrNoNode)
	}
	return fmt.Errorf("%w: %w", ErrNoNode, err)
}

// handle acts on one frame; content is valid until it returns.
func (s *session) handle(content []byte) error {
	op, err := wire.ParseOp(content)
	if err != nil {
		return err
	}
	switch op {
	case wire.OpReply:
		return s.handleReply(content)
	case wire.OpRequest:
		return s.handleRequest(content)
	case wire.OpCancel:
		return s.handleCancel(content)
	case wire.OpPing:
		return s.handlePing(content)
	case wire.OpPong:
		return s.handlePong(content)
	case wire.OpDrained:
		return s.handleDrained(content)
	case wire.OpLeaving:
		return s.handleLeaving(content)
	case wire.OpBye:
		return s.handleBye(content)
	case wire.OpDone:
		return s.handleDone(content)
	case wire.OpBroadcast:
		return s.handleBroadcast(content)
	case wire.OpEvent:
		return s.handleEvent(content)
	}
	return s.handleTunnel(op, content)
}

// handleTunnel acts on one frame of a tunnel.
func (s *session) handleTunnel(op wire.Op, content []byte) error {
	switch op {
	case wire.OpOpen:
		return s.handleOpen(content)
	case wire.OpOpened:
		return s.handleOpened(content)
	case wire.OpData:
		return s.handleData(content)
	case wire.OpAllow:
		return s.handleAllow(content)
	case wire.OpFinish:
		return s.handleFinish(content)
	case wire.OpAbort:
		return s.handleAbort(content)
	}
	return unexpected("a node does not send " + op.String())
}

func unexpected(text string) error {
	return &wire.Error{Code: wire.CodeUnexpected, Clause: "6.4", Text: text}
}

// handleReply completes a call. A reply to a request that is no longer waited
// for is ignored.
func (s *session) handleReply(content []byte) error {
	r, err := wire.ParseReply(content)
	if err != nil {
		return err
	}
	c := s.calls.answered(r.ID)
	if c == nil {
		return nil
	}
	c.code = r.Code
	if r.Code == wire.CodeOK {
		c.Payload = append(make([]byte, 0, len(r.Payload)), r.Payload...)
		c.Headers = decodeHeaders(r.Headers)
	} else {
		c.text = string(r.Text)
	}
	c.done <- struct{}{}
	return nil
}

// handleDone completes a command.
func (s *session) handleDone(content []byte) error {
	id, code, text, err := wire.ParseDone(content)
	if err != nil {
		return err
	}
	if c := s.calls.answered(id); c != nil {
		c.code, c.text = code, text
		c.done <- struct{}{}
	}
	return nil
}

func (s *session) handleEvent(content []byte) error {
	e, err := wire.ParseEvent(content)
	if err != nil {
		return err
	}
	return s.conn.topics.event(s, e)
}

func (s *session) handleRequest(content []byte) error {
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	if s.conn.service == nil {
		return unexpected("a request to a client")
	}
	return s.conn.service.work.take(s, r)
}

func (s *session) handleCancel(content []byte) error {
	id, err := wire.ParseCancel(content)
	if err != nil {
		return err
	}
	if s.conn.service == nil {
		return unexpected("a cancel to a client")
	}
	s.conn.service.work.cancel(s, id)
	return nil
}

// handlePing answers, at most one ping late at a time.
func (s *session) handlePing(content []byte) error {
	token, err := wire.ParsePing(content)
	if err != nil {
		return err
	}
	if s.pongOwed.Swap(true) {
		return nil
	}
	add := func(b []byte) []byte { return wire.AppendPong(b, token) }
	s.writeLate(ctlSize, add, func() { s.pongOwed.Store(false) })
	return nil
}

// handlePong lets confirm know.
func (s *session) handlePong(content []byte) error {
	if _, err := wire.ParsePong(content); err != nil {
		return err
	}
	select {
	case s.ponged <- struct{}{}:
	default: // nobody asked
	}
	return nil
}

func (s *session) handleDrained(content []byte) error {
	if err := wire.ParseDrained(content); err != nil {
		return err
	}
	s.drainedOnce.Do(func() { close(s.drained) })
	return nil
}

// handleLeaving: the node takes no new requests on this session.
func (s *session) handleLeaving(content []byte) error {
	if err := wire.ParseLeaving(content); err != nil {
		return err
	}
	if !s.leaving.Swap(true) {
		s.conn.retire(s)
	}
	return nil
}

// A farewell is a bye of the node: why it ends the session.
type farewell struct {
	code wire.Code
	text string
}

// Error tells the node's reason.
func (f *farewell) Error() string {
	return fmt.Sprintf("the node said bye: %s: %s", f.code, f.text)
}

func (s *session) handleBye(content []byte) error {
	code, text, err := wire.ParseBye(content)
	if err != nil {
		return err
	}
	return &farewell{code, text}
}
