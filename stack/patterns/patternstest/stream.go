package patternstest

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

// maxStream is what may wait in one direction of a stream.
const maxStream = 2 << 20

// Handler is what a node of the network is: *patterns.Node.
type Handler interface {
	overlay.Handler
	Incoming(from link.ID, s patterns.Stream) link.StreamHandler
}

var errReset = errors.New("patternstest: stream reset")

// A stream is one side of a stream between two nodes.
type stream struct {
	net  *Network
	at   link.ID
	peer *stream

	handler link.StreamHandler // of what arrives here; set before anything does

	mu         sync.Mutex // guards the fields below, all of what arrives here
	in, out    []byte     // messages behind their length
	fin        bool       // no more come
	reset      bool
	told       bool // the handler has had its last call
	heard      bool // Finished was called
	delivering bool
	turn       link.Turn // of whoever delivers
}

// OpenStream connects to a node. It takes the network's delay.
func (o *Overlay) OpenStream(ctx context.Context, to link.ID, h link.StreamHandler) (patterns.Stream, error) {
	if o.net.Delay > 0 {
		timer := time.NewTimer(o.net.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if o.net.Refuse != nil {
		if err := o.net.Refuse(o.id, to); err != nil {
			return nil, err
		}
	}
	if !o.net.reaches(o.id, to) {
		return nil, ErrNotLinked
	}
	near, far := &stream{net: o.net, at: o.id, handler: h}, &stream{net: o.net, at: to}
	near.peer, far.peer = far, near
	o.net.mu.Lock()
	target := o.net.nodes[to]
	if target == nil || o.net.nodes[o.id] != o {
		o.net.mu.Unlock()
		return nil, ErrNotLinked
	}
	o.net.streams[near] = true
	o.net.mu.Unlock()
	far.handler = target.Handler.Incoming(o.id, far)
	return near, nil
}

// Streams is how many streams are open in the network.
func (w *Network) Streams() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.streams)
}

// cut breaks the streams of a node. The caller holds the lock.
func (w *Network) cut(id link.ID) {
	for s := range w.streams {
		if s.at == id || s.peer.at == id {
			delete(w.streams, s)
			w.enqueue(func() { s.breakUp(); s.peer.breakUp() })
		}
	}
}

// Send implements patterns.Stream.
func (s *stream) Send(t *link.Turn, head, body []byte) error {
	p := s.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.reset || p.fin:
		return link.ErrClosed
	case len(p.in) > maxStream:
		return link.ErrFull
	}
	p.in = binary.BigEndian.AppendUint32(p.in, uint32(len(head)+len(body)))
	p.in = append(append(p.in, head...), body...)
	t.Touch(p)
	return nil
}

// Finish implements patterns.Stream.
func (s *stream) Finish() {
	s.peer.mu.Lock()
	s.peer.fin = true
	s.peer.mu.Unlock()
	s.peer.Flush()
}

// Abort implements patterns.Stream.
func (s *stream) Abort(link.Reason) {
	s.net.forget(s)
	s.mu.Lock()
	s.reset, s.told = true, true
	s.mu.Unlock()
	s.peer.breakUp()
}

func (w *Network) forget(s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, s)
	delete(w.streams, s.peer)
}

func (s *stream) breakUp() {
	s.mu.Lock()
	s.reset = true
	s.mu.Unlock()
	s.Flush()
}

// Flush delivers what has come for this side, at once or after the network's delay.
func (s *stream) Flush() {
	if s.net.Delay == 0 {
		s.deliver()
		return
	}
	time.AfterFunc(s.net.Delay, s.deliver)
}

func (s *stream) deliver() {
	s.mu.Lock()
	if s.delivering {
		s.mu.Unlock()
		return
	}
	s.delivering = true
	for s.deliverSome() {
		s.mu.Lock()
	}
}

// deliverSome is called with the lock and releases it. False: nothing is left.
func (s *stream) deliverSome() bool {
	switch {
	case s.told:
		s.delivering = false
		s.mu.Unlock()
		return false
	case s.reset:
		s.told = true
		s.mu.Unlock()
		s.handler.Broken(errReset)
	case len(s.in) > 0:
		s.in, s.out = s.out[:0], s.in
		s.mu.Unlock()
		for b := s.out; len(b) > 0; {
			n := binary.BigEndian.Uint32(b)
			s.handler.Received(&s.turn, b[4:4+n])
			b = b[4+n:]
		}
		s.turn.End()
	case s.fin && !s.heard:
		s.heard = true
		s.mu.Unlock()
		s.handler.Finished()
		s.endIfFinished()
	default:
		s.delivering = false
		s.mu.Unlock()
		return false
	}
	return true
}

func (s *stream) endIfFinished() {
	s.peer.mu.Lock()
	both := s.peer.heard
	s.peer.mu.Unlock()
	if both {
		s.net.forget(s)
	}
}
