package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// streamsALPN is the protocol of trunks in the TLS handshake.
const streamsALPN = "iris/1+streams"

// maxStreams is how many streams a peer may have open that it opened.
const maxStreams = 16384

// trunkWindow is what a peer may send on all streams of a trunk that was not read
// yet, in bytes. Readers do not block, so stalled streams do not use it up.
const trunkWindow = 16 << 20

// keepAliveEvery keeps a trunk whose streams are all silent.
const keepAliveEvery = 2 * time.Second

// errRefused ends a trunk that belongs to no link.
var errRefused = errors.New("no link to the node that opened it")

// A trunk is a connection that carries the streams of a link. Either side dials
// one when it needs one and there is none; both may have, and use their own.
type trunk struct {
	conn *Conn // the link that it belongs to, and ends with
	quic *quic.Conn
	wg   sync.WaitGroup // readers and writers of streams, which serve waits for

	mu      sync.Mutex // guards the fields below
	streams map[*Stream]struct{}
	ended   bool
}

// Trunks are those of a link: at most one per side.
type trunks struct {
	dial chan struct{} // holds one while this node dials one

	mu      sync.Mutex // guards the fields below
	dialled *trunk     // nil or ended if there is none
	taken   *trunk     // that the peer dialled; likewise
	ended   bool       // the link is over
}

// OpenStream opens a stream to the peer. h gets what comes on it. The peer learns
// of it with the first message. It may wait for the trunk to be dialled, so
// readers do not call it. Errors: that of ctx, of the network, of the link that
// ended, or ErrFull when 16,384 streams are open.
func (c *Conn) OpenStream(ctx context.Context, h StreamHandler) (*Stream, error) {
	k, err := c.trunk(ctx)
	if err != nil {
		return nil, fmt.Errorf("link: open a stream to %s: %w", c.addr, err)
	}
	q, err := k.quic.OpenStream()
	if limit := (*quic.StreamLimitReachedError)(nil); errors.As(err, &limit) {
		return nil, ErrFull
	}
	if err != nil {
		return nil, fmt.Errorf("link: open a stream to %s: %w", c.addr, explain(err))
	}
	s := newStream(k, q)
	if !k.add(s, h) {
		return nil, fmt.Errorf("link: open a stream to %s: %w", c.addr, causeOf(k.quic))
	}
	return s, nil
}

// trunk gives the trunk to open streams on, and dials it if there is none.
func (c *Conn) trunk(ctx context.Context) (*trunk, error) {
	if k := c.trunks.present(); k != nil {
		return k, nil
	}
	select {
	case c.trunks.dial <- struct{}{}:
		defer func() { <-c.trunks.dial }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.quic.Context().Done():
		return nil, causeOf(c.quic)
	}
	if k := c.trunks.present(); k != nil {
		return k, nil // somebody else dialled it meanwhile
	}
	return c.dialTrunk(ctx)
}

func (c *Conn) dialTrunk(ctx context.Context) (*trunk, error) {
	ctx, done, err := c.t.beginDial(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.quic.Context(), func() { cancel(causeOf(c.quic)) })()
	conf := c.t.tlsConfig(c.peer, c.addr)
	conf.NextProtos = []string{streamsALPN}
	q, err := c.t.quic.Dial(ctx, net.UDPAddrFromAddrPort(c.addr), conf, c.t.trunkConfig)
	if err != nil {
		return nil, explain(err)
	}
	k := c.attach(q, true)
	if k == nil {
		return nil, causeOf(c.quic)
	}
	return k, nil
}

// takeTrunk serves a trunk that a peer dialled, if there is a link to that peer.
func (t *Transport) takeTrunk(ctx context.Context, q *quic.Conn) {
	c := t.upLink(ctx, idOf(q.ConnectionState().TLS.PeerCertificates[0]))
	if c == nil {
		t.log.Debug("trunk refused", "addr", addrPort(q.RemoteAddr()), "err", errRefused)
		_ = q.CloseWithError(quic.ApplicationErrorCode(ReasonProtocol), "")
		return
	}
	c.attach(q, false)
}

// upLink is the link to id. One that is about to come up is waited for: the peer
// may know earlier that it is.
func (t *Transport) upLink(ctx context.Context, id ID) *Conn {
	t.mu.Lock()
	c := t.links[id]
	t.mu.Unlock()
	if c == nil {
		return nil
	}
	timeout := time.NewTimer(handshakeTimeout)
	defer timeout.Stop()
	select {
	case <-c.up:
		return c
	case <-c.done:
	case <-ctx.Done():
	case <-timeout.C:
	}
	return nil
}

// attach makes a trunk of a connection to the peer of c, and serves it until c
// has ended. It closes the connection and returns nil if that is the case already.
// A peer that dials a second one gives up its first.
func (c *Conn) attach(q *quic.Conn, dialled bool) *trunk {
	k := &trunk{conn: c, quic: q, streams: make(map[*Stream]struct{})}
	b := &c.trunks
	b.mu.Lock()
	place := &b.taken
	if dialled {
		place = &b.dialled
	}
	old, ended := *place, b.ended
	if !ended {
		*place = k
		c.wg.Go(k.serve)
	}
	b.mu.Unlock()
	if ended {
		_ = q.CloseWithError(quic.ApplicationErrorCode(ReasonLeaving), "")
		return nil
	}
	if old != nil {
		_ = old.quic.CloseWithError(quic.ApplicationErrorCode(ReasonDuplicate), "")
	}
	return k
}

// present is a trunk that lives, or nil.
func (b *trunks) present() *trunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range []*trunk{b.dialled, b.taken} {
		if k != nil && k.quic.Context().Err() == nil {
			return k
		}
	}
	return nil
}

// end ends the trunks of a link that is over; none is attached any more.
func (b *trunks) end() {
	b.mu.Lock()
	b.ended = true
	all := []*trunk{b.dialled, b.taken}
	b.mu.Unlock()
	for _, k := range all {
		if k != nil {
			_ = k.quic.CloseWithError(quic.ApplicationErrorCode(ReasonLeaving), "")
		}
	}
}

// serve accepts the peer's streams until the trunk has ended.
func (k *trunk) serve() {
	for {
		q, err := k.quic.AcceptStream(context.Background())
		if err != nil {
			break
		}
		s := newStream(k, q)
		h := k.conn.t.handler.Stream(k.conn, s)
		if h == nil {
			s.Abort(ReasonRefused)
			continue
		}
		k.add(s, h)
	}
	k.end()
	k.wg.Wait()
}

// add has a stream served. It is false if the trunk has ended.
func (k *trunk) add(s *Stream, h StreamHandler) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.streams[s] = struct{}{}
	k.wg.Go(func() { s.serve(h) })
	return true
}

// remove forgets a stream that has ended.
func (k *trunk) remove(s *Stream) {
	s.out.shut()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.streams, s)
}

// end refuses further streams, and messages on those there are.
func (k *trunk) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	for s := range k.streams {
		s.out.shut()
	}
}
