package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// maxRefusing is how many connections are told at a time why they are
	// turned away. Further ones are closed without a word.
	maxRefusing = 64
	// refuseTime is how long telling one may take.
	refuseTime = time.Second
	// minPause and maxPause bound the wait after a failed accept.
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Serve accepts from l until ctx is done or Close; it returns nil then, and an
// error if l was closed by somebody else. It closes l. Sessions go on when
// Serve returns: Close ends them. Several Serves may run at a time.
//
// Accepting reads and writes nothing, and a failure of it, such as too many open
// files, is tried again.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.own(ctx, l) {
		return l.Close()
	}
	var pause time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(conn)
			continue
		case ctx.Err() != nil || s.isClosed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("relay: accept at %s: %w", l.Addr(), err)
		}
		if pause == 0 {
			s.log.Warn("cannot accept clients; trying again until it works", "addr", l.Addr(), "err", err)
		}
		pause = min(max(2*pause, minPause), maxPause)
		s.wait(ctx, pause)
	}
}

// own closes l when ctx is done or the Server is closed. It reports whether
// the Server is still open.
func (s *Server) own(ctx context.Context, l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.done:
		}
		_ = l.Close() // what else could be done about an error here
	})
	s.watching.Do(func() { s.wg.Go(s.watch) })
	return true
}

func (s *Server) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// wait returns after d, or when ctx is done or the Server is closed.
func (s *Server) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.done:
	}
}

// refuse turns a connection away, on a goroutine of its own so that accepting
// goes on. s.mu must be held.
func (s *Server) refuse(conn net.Conn, code wire.Code, text string) {
	select {
	case s.refusing <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	s.wg.Go(func() {
		refuseConn(conn, code, text)
		<-s.refusing
	})
}

// refuseConn tells the reason and closes. It first lets the client read:
// closing with its hello unread would reset the connection under the reason.
func refuseConn(conn net.Conn, code wire.Code, text string) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(refuseTime))
	if _, err := conn.Write(wire.AppendRefuse(nil, code, text)); err != nil {
		return
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, wire.HandshakeFrame)
	}
}
