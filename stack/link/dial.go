package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Dial links to the node id at addr and returns when the link is up (nil, also if
// one is up already, or the peer's own dial came first) or failed. The error
// wraps what happened: a *[RefusedError], a *[RemoteError], an error of ctx or of
// the network. It is only valid while Run runs, and not for the own id.
func (t *Transport) Dial(ctx context.Context, id ID, addr netip.AddrPort) error {
	if id == t.id {
		return fmt.Errorf("link: dial %s: that is this node itself", addr)
	}
	ctx, done, err := t.beginDial(ctx)
	if err != nil {
		return err
	}
	defer done()
	if up, _ := t.linked(id); up {
		return nil
	}
	err = t.connect(ctx, id, addr)
	if errors.Is(err, ReasonDuplicate) {
		// Both sides dialled, or two dials met: another connection stays.
		err = t.awaitUp(ctx, id, err)
	}
	if err == nil {
		return nil
	}
	if up, _ := t.linked(id); up {
		return nil
	}
	return fmt.Errorf("link: dial %s: %w", addr, err)
}

// beginDial makes Run wait for a dial, and end it.
func (t *Transport) beginDial(ctx context.Context) (context.Context, func(), error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != phaseRunning {
		return nil, nil, errNotRunning
	}
	t.wg.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(t.run, func() { cancel(errNotRunning) })
	return ctx, func() {
		unhook()
		cancel(nil)
		t.wg.Done()
	}, nil
}

// connect makes a connection and waits until it is a link or has failed.
func (t *Transport) connect(ctx context.Context, id ID, addr netip.AddrPort) error {
	q, err := t.quic.Dial(ctx, net.UDPAddrFromAddrPort(addr), t.tlsConfig(id, addr), t.quicConfig)
	if err != nil {
		return explain(err)
	}
	c := newConn(t, q, true)
	if !t.serve(c) {
		c.Close(ReasonLeaving)
		return errNotRunning
	}
	select {
	case <-c.up:
		return nil
	case <-c.done:
		return c.failure
	case <-ctx.Done():
		c.Close(ReasonNone)
		<-c.done
		return context.Cause(ctx)
	}
}

// linked tells whether a link to id is up, and otherwise gives a channel that is
// closed when some link comes up.
func (t *Transport) linked(id ID) (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.links[id]
	return c != nil && c.isUp(), t.changed
}

// awaitUp waits for the link to id that made another connection a duplicate. err
// is returned if none comes up.
func (t *Transport) awaitUp(ctx context.Context, id ID, err error) error {
	timeout := time.NewTimer(handshakeTimeout)
	defer timeout.Stop()
	for {
		up, changed := t.linked(id)
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout.C:
			return err
		}
	}
}
