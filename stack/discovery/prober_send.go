package discovery

import (
	"context"
	"net/netip"
	"time"
)

// knownInterval is how old the list of peers that need no probing may be.
const knownInterval = 250 * time.Millisecond

// send probes and calls where and when the search says, until ctx is done. Calls may be nil.
func (p *Prober) send(ctx context.Context, calls CallConn) {
	secrets := keyringOf{from: &p.keys}
	challenge := newChallenge(p.challenge[:], p.epoch)
	buffer := make([]byte, 0, Size)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	converged := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.wake:
		}
		now := time.Now()
		if now.Sub(asked) >= knownInterval {
			asked = now
			p.know()
		}
		a := p.step(now)
		if a.target.IsValid() {
			buffer = appendProbe(buffer[:0], probe{kindProbe, challenge.nonce(now, a.target), p.cfg.Self, p.keys.Load().mark}, secrets.current()[0])
			if p.write(buffer, a.target) {
				p.counters.sent.Add(1)
			}
		}
		if a.call && calls != nil {
			p.call(calls, secrets.current()[0])
		}
		if a.converged && !converged {
			converged = true
			p.converge()
		}
		if again := p.thin(now); again > 0 {
			a.wait = min(a.wait, again)
		}
		timer.Reset(a.wait)
	}
}

// wakeSender has the sender look again at once.
func (p *Prober) wakeSender() {
	select {
	case p.wake <- struct{}{}:
	default: // there is a token already
	}
}

// step drives the search.
func (p *Prober) step(now time.Time) action {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.search.step(now)
}

// know tells the search which peers there are.
func (p *Prober) know() {
	var peers []netip.AddrPort
	if p.cfg.Known != nil {
		peers = p.cfg.Known()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.search.know(peers)
}

// converge tells everybody that the first sweep is over.
func (p *Prober) converge() {
	counts := p.Counts()
	if counts.Hits+counts.Answered == 0 {
		p.log.Info("no other node found yet: the search goes on", "subnets", p.cfg.Subnets, "probes", counts.Sent)
	} else {
		p.log.Debug("first sweep done", "probes", counts.Sent, "hits", counts.Hits, "answered", counts.Answered)
	}
	close(p.converged)
}
