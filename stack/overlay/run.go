package overlay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxEvents   = 128             // from links and dials
	maxOffers   = 1024            // candidates that wait for the loop
	dialTimeout = 3 * time.Second // of one attempt
)

// Run runs the overlay and its links until ctx is done, and returns nil then.
// It may be called once. h is called until it returns.
func (o *Overlay) Run(ctx context.Context, h Handler) error {
	o.handler = h
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	if o.carrier != nil {
		wg.Go(func() { failed <- o.carrier.Run(ctx, o) })
	}
	err := o.loop(ctx, &wg, failed)
	close(o.stopped)
	o.release()
	stop()
	wg.Wait()
	return err
}

// release lets everybody go who waits for the loop.
func (o *Overlay) release() {
	o.mail.end()
	for _, batch := range o.batches {
		closeAll(batch)
	}
	closeAll(o.settle)
}

func closeAll(channels []chan struct{}) {
	for _, c := range channels {
		close(c)
	}
}

// loop owns the core. dials says who waits for the dials that it starts.
func (o *Overlay) loop(ctx context.Context, dials *sync.WaitGroup, failed <-chan error) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	step := func(e event) {
		o.perform(ctx, dials, o.core.step(time.Now(), e))
		for len(o.again) > 0 {
			next := o.again[0]
			o.again = o.again[1:]
			o.perform(ctx, dials, o.core.step(time.Now(), next))
		}
	}
	for {
		wasBusy := o.core.busy()
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("overlay: links: %w", errors.Join(err, errors.New("not served any more")))
		case e := <-o.events:
			step(e)
			if up, ok := e.(linkUp); ok {
				o.welcome(up)
			}
		case e := <-o.candidates:
			step(e)
		case answer := <-o.queries:
			answer <- o.core.groupInfos()
		case <-o.mail.wake:
			o.serveMail(step)
		case <-ticker.C:
			for _, a := range o.links.heard(time.Now()) {
				step(a)
			}
			step(tick{})
		}
		if wasBusy && !o.core.busy() {
			o.serveMail(step) // what was left in it
		}
	}
}

// welcome lets others see a link that the core knows, unless it has closed it.
func (o *Overlay) welcome(up linkUp) {
	if l := o.links.to(up.id); l != nil && l.number == up.link {
		l.known.Store(true)
		o.log.Info("peer linked", "peer", up.id, "addr", up.addr)
	}
}

// serveMail does what callers asked for.
func (o *Overlay) serveMail(step func(event)) {
	m := o.mail.take(o.core.busy())
	for waiting := len(o.candidates); waiting > 0; waiting-- {
		step(<-o.candidates) // what was offered before somebody asked whether all is settled
	}
	for g, watched := range m.wished {
		switch {
		case len(g.Name) > maxName && watched:
			o.handler.View(g.Key(), nil, true)
		case len(g.Name) > maxName:
		case watched:
			step(watch{g})
		default:
			step(unwatch{g})
		}
	}
	for id := range m.reach {
		step(reach{id})
	}
	if len(m.announced) > 0 {
		o.announce(m.announced, step)
	}
	if m.left != nil {
		step(leave{o.newBatch(m.left)})
	}
	if m.settled != nil {
		o.settle = append(o.settle, m.settled)
		step(settle{})
	}
}

func (o *Overlay) announce(announced map[Group]announcement, step func(event)) {
	counts := make(map[Group]uint32, len(announced))
	done := make([]chan struct{}, 0, len(announced))
	for g, a := range announced {
		counts[g] = a.count
		done = append(done, a.done)
	}
	step(announce{o.newBatch(done...), counts})
}

// newBatch numbers channels that are to be closed when what is about to be told
// is confirmed.
func (o *Overlay) newBatch(done ...chan struct{}) uint64 {
	o.batch++
	o.batches[o.batch] = done
	return o.batch
}

// perform carries effects out.
func (o *Overlay) perform(ctx context.Context, dials *sync.WaitGroup, effects []effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case dial:
			dials.Go(func() { o.dial(ctx, e) })
		case sendControl:
			if l := o.links.numbered(e.link); l != nil {
				_ = l.conn.SendControl(e.msg) // a link that cannot take it goes down, and says so
			}
		case closeLink:
			o.close(e)
		case offerLink:
			o.offer(e.link)
		case giveUpLink:
			o.giveUp(e.link)
		case resumeLink:
			if l := o.links.numbered(e.link); l != nil {
				o.flush(l.conn.Peer())
			}
		case reached:
			if e.ok {
				o.flush(e.id)
			} else {
				o.giveBack(e.id)
			}
		case pushView:
			o.handler.View(e.group, e.members, e.whole)
		case confirmed:
			closeAll(o.batches[e.batch])
			delete(o.batches, e.batch)
		case lost:
			o.log.Info("peer lost", "peer", e.peer)
			o.handler.Lost(e.peer)
			if o.links.waiting(e.peer) {
				o.mail.reach(e.peer)
			}
		case settled:
			closeAll(o.settle)
			o.settle = nil
		}
	}
}

// hold keeps a link from being used, unless it is in use.
func (o *Overlay) hold(l *linked) bool {
	l.held.Store(true)
	if l.used.Load() || o.handler.Using(l.conn.Peer()) {
		o.flush(l.conn.Peer())
		o.again = append(o.again, used{l.number})
		return false
	}
	return true
}

// offer offers the peer to give a link up.
func (o *Overlay) offer(number uint64) {
	if l := o.links.numbered(number); l != nil && o.hold(l) {
		_ = l.conn.SendControl(release{}.appendTo(nil))
	}
}

// giveUp gives up a link that the peer has offered.
func (o *Overlay) giveUp(number uint64) {
	l := o.links.numbered(number)
	if l == nil {
		return
	}
	if !o.hold(l) {
		_ = l.conn.SendControl(keep{}.appendTo(nil))
		return
	}
	o.log.Debug("closing link that nobody uses", "peer", l.conn.Peer())
	o.links.hide(l)
	l.conn.Close(link.ReasonIdle)
}

// dial makes one attempt and reports its end.
func (o *Overlay) dial(ctx context.Context, e dial) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	err := o.carrier.Dial(ctx, e.id, e.addr)
	if err != nil {
		o.log.Debug("dial failed", "peer", e.id, "addr", e.addr, "err", err)
	}
	o.post(dialled{e.id, err == nil})
}

// close ends a link that the core has given up.
func (o *Overlay) close(e closeLink) {
	l := o.links.numbered(e.link)
	if l == nil {
		return
	}
	o.links.hide(l)
	reason := link.ReasonProtocol
	if e.why == closeSilent {
		reason = link.ReasonSilent
	}
	o.log.Info("closing link", "peer", l.conn.Peer(), "reason", reason.Error(), "packets", l.packets)
	l.conn.Close(reason)
}
