package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// After an error of reading it is tried again, later each time.
	minReadPause = 10 * time.Millisecond
	maxReadPause = time.Second
)

// receive judges what arrives until ctx is done, or the socket is closed,
// which is an error.
func (p *Prober) receive(ctx context.Context, found func(id [32]byte, addr netip.AddrPort)) error {
	secrets := keyringOf{from: &p.keys}
	r := newReceiver(p.cfg.Self, nil, newChallenge(p.challenge[:], p.epoch))
	// One byte more than a probe has, so that longer datagrams show.
	buffer := make([]byte, Size+1)
	pause := minReadPause
	for {
		n, addr, err := p.cfg.Conn.ReadProbe(ctx, buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("%w: %w", errSocket, err)
		case err != nil:
			p.counters.failed[failedRead].Add(1)
			p.log.Debug("cannot read probes", "err", err)
			sleep(ctx, pause)
			pause = min(2*pause, maxReadPause)
			continue
		}
		pause = minReadPause
		addr = unmapped(addr)
		r.keys, r.broadcasts = secrets.current(), *p.broadcasts.Load()
		now := time.Now()
		v := r.judge(now, buffer[:n], addr)
		p.diagnose(now, v, buffer[:n], addr)
		p.watchFlood(now, v, buffer[:n])
		p.act(v, addr, found)
	}
}

// act does what v says about a datagram from addr.
func (p *Prober) act(v verdict, addr netip.AddrPort, found func(id [32]byte, addr netip.AddrPort)) {
	if v.refused != accepted {
		p.counters.refused[v.refused].Add(1)
		return
	}
	answered := v.answer == nil
	if answered {
		p.counters.hits.Add(1)
	} else if p.write(v.answer, addr) {
		p.counters.answered.Add(1)
	}
	p.mu.Lock()
	p.search.hit(time.Now(), addr, v.fresh, answered)
	p.mu.Unlock()
	if v.report {
		found(v.id, addr)
	}
}

// diagnose remembers who sent a datagram under a foreign MAC, and forgets who is
// accepted.
func (p *Prober) diagnose(now time.Time, v verdict, b []byte, addr netip.AddrPort) {
	switch v.refused {
	case refusedMAC:
		mark := Mark(b[offsetMark:offsetNonce])
		p.strangers.saw(now, addr, mark != Mark{} && mark == p.keys.Load().mark)
	case accepted:
		p.strangers.forget(addr)
	}
}

// watchFlood counts the datagram b, and those like it that were dropped.
func (p *Prober) watchFlood(now time.Time, v verdict, b []byte) {
	unseen, begins := p.floods.saw(now, classOf(b, p.keys.Load().mark), v.refused != accepted)
	p.counters.refused[refusedFlood].Add(uint64(unseen))
	if begins {
		p.wakeSender()
	}
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// unmapped writes an IPv4 address in IPv6 form as IPv4.
func unmapped(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
