package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/quic-go/quic-go"
)

// Bounds of a stream in bytes.
const (
	streamLimit      = 2 << 20   // what waits to be sent; the layer above keeps to its own credit
	streamMaxMessage = 128 << 10 // of one message
	streamReadBuffer = 1 << 10   // what a stream without traffic keeps
)

// A Stream is one tunnel between two nodes: messages both ways, in order, each
// direction with an end of its own. It ends by itself when both sides have
// finished. All methods are safe for concurrent use.
type Stream struct {
	trunk *trunk
	quic  *quic.Stream
	out   *output
	over  atomic.Bool // both sides have finished
}

// StreamHandler gets what comes on one stream, from one goroutine. No method may
// block.
type StreamHandler interface {
	// Received is a message, valid until return. The turn ends when the stream's
	// input is drained.
	Received(t *Turn, msg []byte)
	// Finished tells that the peer has finished, after all its messages.
	Finished()
	// Broken tells that the stream was aborted by either side, or lost its
	// connection, and is the last call. It does not come when both sides have
	// finished. What the other side was sent may not have arrived.
	Broken(err error)
}

func newStream(k *trunk, q *quic.Stream) *Stream {
	s := &Stream{trunk: k, quic: q}
	s.out = &output{w: q, limit: streamLimit, buffers: k.conn.t.buffers, wg: &k.wg, end: func() { _ = q.Close() }}
	return s
}

// Send appends head+body as one message, which goes out when the turn ends. It
// never blocks. Errors: ErrFull when more than 2 MiB would wait, ErrTooLarge above
// 128 KiB, ErrClosed after Finish, Abort or the end. Nothing was sent then.
func (s *Stream) Send(t *Turn, head, body []byte) error {
	if len(head)+len(body) > streamMaxMessage {
		return ErrTooLarge
	}
	if err := s.out.append(head, body); err != nil {
		return err
	}
	t.Touch(s.out)
	return nil
}

// Finish ends this side's direction after what was sent. Finishing again does
// nothing.
func (s *Stream) Finish() { s.out.finish() }

// Abort ends both directions at once; what was sent may be lost. The peer's handler
// gets a RemoteError with the reason, the own one a LocalError. Aborting again, or
// after the end, does nothing.
func (s *Stream) Abort(reason Reason) {
	if s.over.Load() {
		return // what was sent last may still be on its way
	}
	s.out.shut()
	s.quic.CancelRead(quic.StreamErrorCode(reason))
	s.quic.CancelWrite(quic.StreamErrorCode(reason))
}

// serve hands what comes to h until the stream has ended.
func (s *Stream) serve(h StreamHandler) {
	defer s.trunk.remove(s)
	err := s.read(h)
	if err == nil {
		h.Finished()
		err = s.awaitFinish()
	}
	if err == nil {
		s.over.Store(true)
		return
	}
	var reason Reason
	errors.As(err, &reason)
	s.Abort(reason)
	h.Broken(err)
}

// read hands each message to h. It is nil when the peer has finished.
func (s *Stream) read(h StreamHandler) error {
	in := &splitter{max: streamMaxMessage, least: streamReadBuffer}
	var turn Turn
	defer turn.End()
	for {
		n, err := s.quic.Read(in.room())
		in.filled(n)
		msg, broken := in.next()
		for ; msg != nil; msg, broken = in.next() {
			h.Received(&turn, msg)
		}
		if broken == nil && err == io.EOF && in.unread() > 0 {
			broken = errors.New("finished within a message")
		}
		switch {
		case broken != nil:
			s.trunk.conn.t.log.Warn("stream aborted: the peer broke the protocol", "peer", s.trunk.conn.peer, "err", broken)
			return fmt.Errorf("%w: %w", broken, &LocalError{ReasonProtocol})
		case err == io.EOF:
			return nil
		case err != nil:
			return streamCause(err)
		}
		turn.End()
	}
}

// awaitFinish waits until this side has finished, too: nil, or until it cannot.
func (s *Stream) awaitFinish() error {
	<-s.quic.Context().Done()
	if s.out.ended() {
		return nil
	}
	return streamCause(context.Cause(s.quic.Context()))
}

// streamCause gives the error of this package for that of a stream.
func streamCause(err error) error {
	se := (*quic.StreamError)(nil)
	switch {
	case !errors.As(err, &se):
		return explain(err)
	case se.Remote:
		return &RemoteError{Reason(se.ErrorCode)}
	default:
		return &LocalError{Reason(se.ErrorCode)}
	}
}
