package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"
)

// errNotRunning is returned where Run has to be running and is not.
var errNotRunning = fmt.Errorf("link: the transport does not run: %w", net.ErrClosed)

// Run accepts links and serves all links until ctx is done; then it closes them
// with ReasonLeaving, waits for every callback, closes the Transport and returns
// nil. A Transport runs once. Close ends it, too.
func (t *Transport) Run(ctx context.Context, h Handler) error {
	run, err := t.begin(ctx, h)
	if err != nil {
		return err
	}
	listener, err := t.quic.Listen(t.serverTLS(), t.listenConfig)
	if err == nil {
		err = t.accept(run, listener)
		t.end()
		// Only now: a listener that closes first would cut off handshakes half way.
		_ = listener.Close()
	} else {
		t.end()
	}
	close(t.stopped)
	if err != nil {
		return errors.Join(fmt.Errorf("link: listen on %s: %w", t.Addr(), err), t.Close())
	}
	return t.Close()
}

// begin starts the phase in which links may be made.
func (t *Transport) begin(ctx context.Context, h Handler) (context.Context, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != phaseNew {
		return nil, errors.New("link: Run was called before, or the transport is closed")
	}
	t.phase = phaseRunning
	t.handler = h
	t.run, t.stop = context.WithCancel(ctx)
	return t.run, nil
}

// end closes every link and waits for them and for dials.
func (t *Transport) end() {
	t.mu.Lock()
	t.phase = phaseEnded
	t.stop()
	t.mu.Unlock()
	t.wg.Wait()
}

// serverTLS verifies each peer together with its address.
func (t *Transport) serverTLS() *tls.Config {
	c := t.tlsConfig(ID{}, t.Addr())
	c.NextProtos = append(c.NextProtos, streamsALPN)
	c.GetConfigForClient = func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		conf := t.tlsConfig(ID{}, addrPort(info.Conn.RemoteAddr()))
		conf.NextProtos = append(conf.NextProtos, streamsALPN)
		return conf, nil
	}
	return c
}

// accept serves the connections of others until ctx is done. It returns an error
// if the socket failed.
func (t *Transport) accept(ctx context.Context, listener *quic.Listener) error {
	for {
		q, err := listener.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if q.ConnectionState().TLS.NegotiatedProtocol == streamsALPN {
			t.wg.Go(func() { t.takeTrunk(ctx, q) }) // before end, which waits for wg
			continue
		}
		if !t.serve(newConn(t, q, false)) {
			_ = q.CloseWithError(quic.ApplicationErrorCode(ReasonLeaving), "")
		}
	}
}

// serve runs a connection in a goroutine that Run waits for. It is false, and does
// nothing, if Run ends.
func (t *Transport) serve(c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != phaseRunning {
		return false
	}
	t.wg.Go(func() { c.serve(t.run) })
	return true
}

// Close ends everything at once, also when Run never ran: links are closed with
// ReasonLeaving, Run returns, the socket is closed. It waits for that, so a
// Handler may not call it. It is idempotent.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.phase == phaseNew {
		t.phase = phaseEnded
		t.stop = func() {}
		close(t.stopped)
	}
	t.stop()
	t.mu.Unlock()
	<-t.stopped
	t.closing.Do(func() { t.closed = errors.Join(t.quic.Close(), t.socket.Close()) })
	return t.closed
}
