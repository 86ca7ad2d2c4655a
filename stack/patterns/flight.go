package patterns

import (
	"errors"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	textTimeout    = "the deadline has passed"
	textNoService  = "nobody serves the cluster"
	textOverloaded = "no member of the cluster takes it"
	textLost       = "the member is gone; the request may or may not have been executed"
	textCancelled  = "the requester gave up"
)

var errNoCredit = errors.New("patterns: no credit")

// A step is what to do for a request once the lock is released: offer it to
// somebody, or deliver its outcome, or nothing.
type step struct {
	entry   *entry
	attempt uint32
	to      *party // to be offered to; nil: nobody
	flow    uint32
	request Request // as the member shall get it
	end     outcome
}

// begin makes an entry for a request that asker gave the id askerID, or nil if
// there are too many.
func (n *Node) begin(asker *party, askerID uint64, flow uint32, g *group, now, budget time.Duration) *entry {
	e := n.slab.alloc()
	if e == nil {
		return nil
	}
	e.asker, e.askerID, e.flow, e.group = asker, askerID, flow, g
	asker.asked[askerID] = e
	g.inflight++
	e.deadline = -1
	if budget >= 0 && now+budget > now { // it may be too long to be added
		e.deadline = now + budget
		if n.wheel.add(e) {
			n.kick()
		}
	}
	return e
}

// place finds the member to offer e to next, or parks it, or ends it. r is the
// request; its id and budget are set here.
func (n *Node) place(e *entry, r Request, now time.Duration) step {
	r.ID, r.Budget = e.id, -1
	if e.deadline >= 0 {
		if r.Budget = e.deadline - now; r.Budget <= 0 {
			return step{end: n.finish(e, CodeTimeout, false)}
		}
	}
	m := n.choose(e.group, e.tried, e.asker.sink == nil)
	if m == nil {
		return n.unplaced(e, r)
	}
	e.member, e.sent, e.offering = m, now, true
	e.attempt++
	e.offers++
	m.inflight++
	m.at.running.push(hookPlace, e)
	if m.at.sink != nil {
		n.running.Add(1)
	}
	return step{entry: e, attempt: e.attempt, to: m.at, flow: e.flow, request: r}
}

// choose yields the member of g to offer something to, or nil. What another node
// asks for stays here. A local member is preferred while it is not busier.
func (n *Node) choose(g *group, tried []*party, remote bool) *member {
	if len(tried) >= maxTries {
		return nil
	}
	here, here2 := g.locals.pick(n.rng, tried)
	if remote || here != nil && here.inflight == 0 {
		if here != nil {
			g.locals.charge(here, here2)
		}
		return here
	}
	there, there2 := g.remotes.pick(n.rng, tried)
	switch {
	case here != nil && (there == nil || here.busier(there) <= 0):
		g.locals.charge(here, here2)
		return here
	case there != nil:
		g.remotes.charge(there, there2)
	}
	return there
}

// unplaced is what happens to a request that no member can be chosen for.
func (n *Node) unplaced(e *entry, r Request) step {
	if e.asker.sink == nil {
		why := reasonNoMember
		switch {
		case n.draining:
			why = reasonDraining
		case e.busy:
			why = reasonOverloaded
		}
		o := n.finish(e, 0, false)
		o.refuse = why
		return step{end: o, request: r}
	}
	code := CodeNoService
	switch {
	case !e.group.viewed && len(e.tried) < maxTries:
		if n.park(e, r) {
			return step{}
		}
		code = CodeOverloaded
	case e.busy:
		code = CodeOverloaded
	}
	return step{end: n.finish(e, code, false)}
}

// dispatch does s, and what follows from it.
func (n *Node) dispatch(t *link.Turn, s step) {
	for s.to != nil {
		err := n.offer(t, &s)
		s = n.offered(&s, err)
	}
	n.deliver(t, &s.end, s.request)
}

// offered continues after an offer: err means that it was provably not taken.
func (n *Node) offered(s *step, err error) step {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := s.entry
	e.offers--
	if !e.live { // ended meanwhile
		var o outcome
		if e.attempt == s.attempt && e.abandoned && err == nil {
			o = outcome{cancel: s.to, id: e.id, flow: e.flow}
		}
		if e.offers == 0 {
			n.slab.release(e)
		}
		return step{end: o}
	}
	if e.attempt != s.attempt { // refused meanwhile, and on its way again
		return step{}
	}
	switch e.offering = false; {
	case err != nil:
		return n.again(e, s.request, true)
	case s.to.closed:
		return step{end: n.finish(e, CodeLost, false)}
	}
	return step{}
}

// again places e after the member it was offered to has not taken it. busy is
// whether that one has members at all.
func (n *Node) again(e *entry, r Request, busy bool) step {
	e.tried = append(e.tried, e.member.at)
	e.busy = e.busy || busy
	e.member.pass += refusedLag // others first, for a while
	e.offering = false
	if n.leave(e) {
		n.left()
	}
	return n.place(e, r, n.now())
}

// answer ends the request that at replies to. It returns false if at does not
// have it.
func (n *Node) answer(at *party, r Reply) (outcome, bool) {
	e := n.slab.find(r.ID)
	if e == nil || e.member == nil || e.member.at != at {
		return outcome{}, false
	}
	if r.Code == CodeOK {
		e.member.observe(n.now() - e.sent)
	}
	o := n.finish(e, r.Code, false)
	r.ID = o.reply.ID
	o.reply = r
	return o, true
}

// orphan gives up one of the requests that asker has asked for, and is gone.
func (n *Node) orphan(asker *party) (outcome, bool) {
	for _, e := range asker.asked {
		o := n.finish(e, CodeLost, true)
		o.asker = nil
		return o, true
	}
	return outcome{}, false
}

// bereave ends one of the requests that at has had, and is gone. One that is
// being offered to a session at this moment is left to who offers it: it may turn
// out not to have been taken.
func (n *Node) bereave(at *party) (outcome, bool) {
	for e := at.running.head; e != nil; e = e.hooks[hookPlace].next {
		if at.sink == nil || !e.offering {
			return n.finish(e, CodeLost, false), true
		}
	}
	return outcome{}, false
}

// finish ends e: this is the one place where a request gets its outcome.
// abandoned is whether its member, if it has one, has to be told.
func (n *Node) finish(e *entry, c Code, abandoned bool) outcome {
	o := outcome{asker: e.asker, id: e.id, flow: e.flow, reply: Reply{ID: e.askerID, Code: c}}
	delete(e.asker.asked, e.askerID)
	if e.deadline >= 0 {
		n.wheel.remove(e)
	}
	switch {
	case e.parked != nil:
		n.unpark(e)
	case e.member != nil:
		if abandoned && !e.offering {
			o.cancel = e.member.at
		}
		o.ran = n.leave(e)
	}
	e.group.inflight--
	e.live, e.abandoned = false, abandoned
	if e.offers == 0 {
		n.slab.release(e)
	}
	return o
}

// leave takes e from its member. It returns whether that is a session.
func (n *Node) leave(e *entry) bool {
	m := e.member
	m.inflight--
	m.at.running.remove(hookPlace, e)
	e.member = nil
	return m.at.sink != nil
}

// left counts a request off that was at a session. The last one ends a drain.
func (n *Node) left() {
	if n.running.Add(-1) == 0 {
		n.calm()
	}
}

// calm has Drain look whether nothing runs any more. It never blocks.
func (n *Node) calm() {
	select {
	case n.quiet <- struct{}{}:
	default:
	}
}
