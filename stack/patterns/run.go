package patterns

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// Run drives deadlines and tells the overlay what this node serves and watches,
// until ctx is done. It sleeps while there is nothing to do. It returns nil.
func (n *Node) Run(ctx context.Context) error {
	var waits sync.WaitGroup
	defer waits.Wait()
	defer n.dials.Wait()
	defer n.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var t link.Turn
	for {
		n.tell(ctx, &waits)
		n.expire(&t)
		n.settleDebts(&t)
		missing := n.giveUpMissing(&t)
		t.End()
		if rest, any := n.rest(missing); any {
			timer.Reset(rest)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-n.wake:
		}
	}
}

// rest is how long Run may sleep, not beyond until; false: until it is woken.
func (n *Node) rest(until time.Duration) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	until = min(until, n.forgetIdle(now), n.expireKept(now))
	n.wheel.armed = n.wheel.next()
	if n.wheel.armed != never {
		until = min(until, time.Duration(n.wheel.armed)*wheelTick)
	}
	if len(n.owed) > 0 {
		until = min(until, now+wheelTick)
	}
	if len(n.changed) > 0 {
		until = now
	}
	return max(0, until-now), until != never
}

// expire ends the requests whose deadline has passed.
func (n *Node) expire(t *link.Turn) {
	n.sweep(t, func() (outcome, bool) {
		now := n.now()
		e := n.wheel.due(now)
		if e == nil {
			return outcome{}, false
		}
		if e.member != nil {
			e.member.observe(now - e.sent)
		}
		return n.finish(e, CodeTimeout, true), true
	})
}

// sweep delivers what next yields, which it calls with the lock, until it
// yields no more. It holds the lock for a limited number of them at a time.
func (n *Node) sweep(t *link.Turn, next func() (outcome, bool)) {
	const atOnce = 64
	var batch []outcome
	for more := true; more; {
		batch = batch[:0]
		n.mu.Lock()
		for more && len(batch) < atOnce {
			var o outcome
			if o, more = next(); more {
				batch = append(batch, o)
			}
		}
		n.mu.Unlock()
		for i := range batch {
			n.deliver(t, &batch[i], Request{})
		}
	}
}

// change notes that the overlay has to be told about g.
func (n *Node) change(g *group) {
	if !g.changed {
		g.changed = true
		n.changed = append(n.changed, g)
	}
	n.kick()
}

// tell tells the overlay what has changed. Only Run does, so that what is told
// later is what became true later. A group that was forgotten and opened again
// in between is two groups, told about in their order.
func (n *Node) tell(ctx context.Context, waits *sync.WaitGroup) {
	for {
		n.mu.Lock()
		if len(n.changed) == 0 {
			n.changed = nil
			n.mu.Unlock()
			return
		}
		g := n.changed[0]
		n.changed = n.changed[1:]
		count, watch, waiters, joined := len(g.here), g.wanted(), g.toldWaiters, g.joined
		announce, rewatch := count != g.toldCount || len(waiters) > 0, watch != g.toldWatch || watch && g.lapsed
		g.changed, g.lapsed, g.toldCount, g.toldWatch, g.toldWaiters = false, false, count, watch, nil
		n.mu.Unlock()

		of := overlay.Group{Kind: g.kind, Name: g.name}
		if announce {
			confirmed := n.overlay.Announce(of, count)
			if len(waiters) > 0 {
				waits.Go(func() { n.passOn(ctx, confirmed, g, joined, waiters) })
			}
		}
		switch {
		case rewatch && watch:
			n.overlay.Watch(of)
		case rewatch:
			n.overlay.Unwatch(of)
		}
	}
}

// passOn closes the waiters' channels when confirmed is closed or ctx is done. The
// announcement was made when g.joined was joined.
func (n *Node) passOn(ctx context.Context, confirmed <-chan struct{}, g *group, joined uint64, waiters []chan struct{}) {
	select {
	case <-confirmed:
		n.mu.Lock()
		g.confirmed = g.confirmed || g.joined == joined && len(g.here) > 0
		n.mu.Unlock()
	case <-ctx.Done():
	}
	for _, w := range waiters {
		close(w)
	}
}

// end releases those who wait for what Run will not tell any more.
func (n *Node) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for _, g := range n.keys {
		if g.awaited != nil {
			close(g.awaited)
			g.awaited = nil
		}
	}
	n.tunnels.endDials()
	for _, g := range n.changed {
		for _, w := range g.toldWaiters {
			close(w)
		}
		g.toldWaiters = nil
	}
}

// Drain refuses new work for local members from now on, withdraws all of them,
// and waits until the requests that they run are answered and this node's tunnels
// have ended. If ctx is done first, the error says how many have not.
func (n *Node) Drain(ctx context.Context) error {
	n.mu.Lock()
	n.draining = true
	for _, g := range n.groups {
		if len(g.locals.members) > 0 {
			g.locals, g.here = pool{}, nil
			n.lapse(g)
			n.change(g)
		}
	}
	n.mu.Unlock()
	for n.running.Load() > 0 {
		select {
		case <-n.quiet:
		case <-ctx.Done():
			return fmt.Errorf("patterns: drain: %d requests and ends of tunnels still run: %w", n.running.Load(), ctx.Err())
		}
	}
	n.calm() // for another Drain
	return nil
}
