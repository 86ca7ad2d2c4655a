package relay

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// handshakeTime is how long a connection may take to say hello.
	handshakeTime = 10 * time.Second
	// joinTime is how long a service waits for its welcome while the network
	// learns of it.
	joinTime = time.Second
)

// handshake reads the hello, attaches the session to the network and welcomes
// the client. An error refuses it.
func (s *Session) handshake() error {
	s.setReadDeadline(time.Now().Add(handshakeTime))
	hello, err := s.readHello()
	if err != nil {
		return err
	}
	if err := s.checkHello(hello); err != nil {
		return err
	}
	cluster := string(hello.Cluster)
	s.mu.Lock()
	s.cluster = cluster
	s.mu.Unlock()
	port, joined, err := s.server.cfg.Network.Attach(s, cluster)
	if err != nil {
		return refusal(err)
	}
	s.port = port
	s.awaitJoined(joined)
	s.in.SetLimit(s.server.cfg.Limits.Frame)
	s.setReadDeadline(time.Time{})
	return s.welcome()
}

// readHello waits for the first frame.
func (s *Session) readHello() (wire.Hello, error) {
	content, err := s.in.Next()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return wire.Hello{}, &wire.Error{Code: wire.CodeHandshakeTimeout, Text: fmt.Sprintf("no hello within %v", handshakeTime)}
	}
	if err != nil {
		return wire.Hello{}, readError(err)
	}
	op, err := wire.ParseOp(content)
	if err != nil {
		return wire.Hello{}, err
	}
	if op != wire.OpHello {
		return wire.Hello{}, unexpected(op.String() + " before hello")
	}
	return wire.ParseHello(content)
}

// checkHello refuses what this node cannot or must not serve.
func (s *Session) checkHello(h wire.Hello) error {
	if _, err := h.CommonVersion(); err != nil {
		return err
	}
	for _, f := range h.Features { // relay.md 2.5: version 1 offers none
		if strings.HasPrefix(f, "!") {
			return &wire.Error{Code: wire.CodeFeature, Text: fmt.Sprintf("the node does not offer %q", f)}
		}
	}
	if len(h.Cluster) == 0 {
		return nil // a client
	}
	if wire.Reserved(h.Cluster) {
		return &wire.Error{Code: wire.CodeName, Text: "names that begin with $ are the node's own"}
	}
	if err := s.server.cfg.Limits.CheckName(h.Cluster); err != nil {
		return &wire.Error{Code: wire.CodeName, Text: reasonOf(err).Text}
	}
	return nil
}

// refusal is what the client is told of an error of the network. relay.md 2.7:
// a hello is refused with a code of 16 to 31.
func refusal(err error) error {
	if e := reasonOf(err); e != nil && e.Code >= 16 && e.Code <= 31 {
		return e
	}
	return &wire.Error{Code: wire.CodeNotReady, Text: err.Error()}
}

// awaitJoined waits until the network knows of the service, for a while: it
// can serve those that know of it already.
func (s *Session) awaitJoined(joined <-chan struct{}) {
	if joined == nil {
		return
	}
	timer := time.NewTimer(joinTime)
	defer timer.Stop()
	select {
	case <-joined:
	case <-timer.C:
	case <-s.server.done:
	}
}

// welcome lets the client in, unless the node has begun to leave: a Drain sees
// this session either as attached or not at all.
func (s *Session) welcome() error {
	frame := wire.AppendWelcome(nil, wire.Welcome{Version: wire.Version, Limits: s.server.cfg.Limits, Info: s.server.cfg.Info})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason != nil {
		return s.reason
	}
	if s.server.leaving.Load() {
		return &wire.Error{Code: wire.CodeNotReady, Text: "the node is leaving"}
	}
	b, err := s.out.Begin(len(frame))
	if err != nil {
		return errors.Join(errGone, err)
	}
	s.out.Commit(append(b, frame...))
	s.welcomed = true
	s.wrote = true
	return nil
}
