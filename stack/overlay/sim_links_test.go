package overlay

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// wireCost is what carries a message: headers of IP, UDP and QUIC, its tag, and a share
	// of an acknowledgement.
	wireCost = 90
	resend   = 100 * time.Millisecond // after which what was lost comes
)

func (n *simNode) sendControl(e sendControl) {
	n.sent += len(e.msg) + wireCost
	n.messages++
	end := n.ends[e.link]
	if end == nil { // it ends, which the core does not know yet
		return
	}
	end.send(func(at *simEnd) { at.node.step(control{at.number, e.msg}) })
}

func (s *sim) dial(from *simNode, e dial) {
	s.dials++
	fail := func(after time.Duration) {
		s.dialFails++
		s.post(s.now.Add(after), from, func() { from.step(dialled{e.id, false}) })
	}
	to := s.byAddr[e.addr]
	if to == nil || !to.alive || s.cut(from, to) {
		fail(time.Second)
		return
	}
	s.post(s.now.Add(3*s.latency(from, to)), nil, func() {
		if !to.alive || s.now.Before(to.stalled) {
			fail(3 * time.Second)
			return
		}
		if to.id != e.id || from.linked[to] != nil || to.linked[from] != nil {
			fail(s.latency(from, to))
			return
		}
		if !from.alive {
			return
		}
		a, b := from.newEnd(), to.newEnd()
		a.other, b.other = b, a
		from.linked[to], to.linked[from] = a, b
		b.last = s.now.Add(s.latency(to, from))
		s.post(b.last, from, func() {
			if a.open {
				from.step(linkUp{a.number, to.id, to.addr})
			}
			from.step(dialled{e.id, a.open})
		})
		to.step(linkUp{b.number, from.id, from.addr})
	})
}

func (n *simNode) newEnd() *simEnd {
	n.lastLink++
	end := &simEnd{node: n, number: n.lastLink, open: true}
	n.ends[end.number] = end
	return end
}

// send delivers to the other end, in order.
func (e *simEnd) send(deliver func(at *simEnd)) {
	s := e.node.sim
	if !e.open {
		return
	}
	if len(e.held) > 0 || s.cut(e.node, e.other.node) {
		if len(e.held) == 0 {
			s.holding = append(s.holding, e)
		}
		e.held = append(e.held, deliver)
		return
	}
	at := s.now.Add(s.latency(e.node, e.other.node))
	if s.loss > 0 && s.rng.Float64() < s.loss {
		at = at.Add(resend)
	}
	if at.After(e.last) {
		e.last = at
	}
	s.post(e.last, e.other.node, func() {
		if e.other.open {
			deliver(e.other)
		}
	})
}

// close ends the link at this end at once and at the other by a message.
func (e *simEnd) close(idle bool) {
	e.send(func(at *simEnd) {
		at.shut()
		at.node.linkDown(at, idle)
	})
	e.shut()
}

func (n *simNode) linkDown(end *simEnd, idle bool) {
	n.idling = idle
	n.step(linkDown{end.number, idle})
	n.idling = false
}

func (e *simEnd) shut() {
	e.open = false
	delete(e.node.ends, e.number)
	if e.node.linked[e.other.node] == e {
		delete(e.node.linked, e.other.node)
	}
}

// heal ends all partitions: held messages go on their way.
func (s *sim) heal() {
	s.cut = func(a, b *simNode) bool { return false }
	holding := s.holding
	s.holding = nil
	for _, e := range holding {
		held, open := e.held, e.open
		e.held, e.open = nil, true
		for _, deliver := range held {
			e.send(deliver)
		}
		e.open = open
	}
}

// breakLink ends a random link at both ends, as a reset would.
func (s *sim) breakLink() {
	n := s.alive()[s.rng.IntN(len(s.alive()))]
	for _, number := range slices.Sorted(maps.Keys(n.ends)) {
		e := n.ends[number]
		if !e.open || !e.other.open || !e.other.node.alive || s.rng.IntN(3) > 0 {
			continue
		}
		for _, end := range []*simEnd{e, e.other} {
			end.shut()
			s.post(s.now.Add(s.latency(n, n)), end.node, func() { end.node.step(linkDown{end.number, false}) })
		}
		return
	}
}

// median of a list, and its value at a share of it.
func median(list []int) int { return quantile(list, 0.5) }

func quantile[T cmp.Ordered](list []T, share float64) T {
	if len(list) == 0 {
		var zero T
		return zero
	}
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(share*float64(len(list))))]
}
