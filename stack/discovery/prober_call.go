package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

const (
	// Datagrams that come by multicast are looked at at this rate; in a flood, the system drops the others.
	earInterval = time.Second / 500
	earBurst    = 100
)

// CallConn is the socket of calls as discovery sees it.
type CallConn interface {
	// ReadCall waits for a datagram that came by multicast, copies what fits into b, and returns the number of bytes
	// copied and the sender, whose zone is the name of the interface. It returns an error when the socket is closed.
	ReadCall(b []byte) (int, netip.Addr, error)
	// WriteCall sends b to everybody on an interface, whose calls are heard from then on. One goroutine at a time calls it.
	WriteCall(b []byte, nic string) error
	Close() error // once or more
}

// openCalls opens the socket of calls; nil if there is to be none, or can be none.
func (p *Prober) openCalls() CallConn {
	if p.cfg.Calls == nil {
		return nil
	}
	conn, err := p.cfg.Calls()
	if err != nil {
		p.log.Info("no calls by IPv6 multicast: discovery goes without", "err", err)
		return nil
	}
	return conn
}

// call calls on every interface. Failures are counted, and told once: an IPv6 address that has just come cannot be used
// for a second or two.
func (p *Prober) call(conn CallConn, s *signer) {
	for _, c := range *p.callers.Load() {
		addr := netip.AddrPortFrom(c.Address.Addr(), p.cfg.Exclude.Port())
		b := appendProbe(nil, probe{kindCall, callOf(addr), p.cfg.Self, p.keys.Load().mark}, s)
		if err := conn.WriteCall(b, c.Interface); err == nil {
			p.counters.called.Add(1)
		} else if p.counters.failed[failedCall].Add(1) == 1 {
			p.log.Debug("cannot call: more errors of this sort are only counted", "interface", c.Interface, "err", err)
		}
	}
}

// hearCalls has callers probed until ctx is done. It closes conn.
func (p *Prober) hearCalls(ctx context.Context, conn CallConn) {
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends ReadCall
	defer func() { _ = conn.Close() }()
	secrets := keyringOf{from: &p.keys}
	l := newListener(p.cfg.Self)
	ear := pacer{interval: earInterval, burst: earBurst}
	buffer := make([]byte, Size+1) // longer datagrams show
	for ctx.Err() == nil {
		n, from, err := conn.ReadCall(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.counters.failed[failedRead].Add(1)
			sleep(ctx, maxReadPause)
			continue
		}
		l.keys, l.callers = secrets.current(), *p.callers.Load()
		now := time.Now()
		if addr, refused := l.judge(now, buffer[:n], from); refused == accepted {
			p.heard(addr)
		} else {
			p.counters.refused[refused].Add(1)
		}
		ear.take(now)
		if d := ear.wait(now); d > 0 {
			sleep(ctx, d)
		}
	}
}

// heard has addr probed next.
func (p *Prober) heard(addr netip.AddrPort) {
	p.counters.heard.Add(1)
	p.mu.Lock()
	p.search.heard(addr)
	p.mu.Unlock()
	p.wakeSender()
}
