package patterns

import (
	"bytes"
	"sync"

	"github.com/project-iris/iris/stack/link"
)

// A TunnelSink is a session's end of one tunnel. Calls come from many
// goroutines, one at a time but for the first, and must not block; byte slices
// are valid until return. Nothing is called after Aborted, after the session's
// own Abort has returned (but for a call that had begun), or after both sides
// have finished.
type TunnelSink interface {
	// Opened tells the side that asked that the tunnel is accepted.
	Opened(t *link.Turn, window uint32, headers []byte)
	// Data is a part of a message, the end of it if last.
	Data(t *link.Turn, last bool, payload []byte)
	// Allow is how much more may be sent.
	Allow(t *link.Turn, n uint32)
	// Finish is the end of what the other side sends.
	Finish(t *link.Turn)
	// Aborted is the end of the tunnel that this session has not asked for.
	Aborted(t *link.Turn, code Code, text []byte)
}

// A side is what is opposite of one end of a tunnel: the other end on this node,
// or a stream to the other node.
type side interface {
	// hand gives it an event of the end from. An error means that it is lost.
	hand(t *link.Turn, from *Tunnel, e event) error
	// close lets go of it, after the last hand. broken: because it breaks the rules, or lost something.
	close(broken bool)
}

// A Tunnel is one end of a tunnel. Its methods are called by one goroutine at a
// time, the session's reader; they do nothing once the tunnel has ended.
//
// Whoever has something to hand on notes, under the lock, that it is busy, and does it
// without the lock. What ends the tunnel is carried out by the last one who was
// busy: so nothing can come after the end, and the end cannot overtake data.
type Tunnel struct {
	node  *Node
	owner *party

	opening *opening // of the side that asks, until it is answered; guarded by the node's mutex

	mu    sync.Mutex // guards the fields below
	state tunnelState
	sink  TunnelSink // nil until accepted
	other side       // nil: none yet
	busy  int        // who hand something on at this moment
	end   ending
}

var _ side = (*Tunnel)(nil)

// An ending is what is left to do once a tunnel has ended and nobody is busy.
type ending struct {
	tellSink, tellOther bool
	code                Code
	text                []byte
	broken              bool
	done                bool
}

// Offered tells who hears of the end of a tunnel that Sink.Tunnel has offered, before
// it is accepted. If it has ended meanwhile, s.Aborted is called.
func (p *Tunnel) Offered(t *link.Turn, s TunnelSink) {
	p.mu.Lock()
	if p.sink == nil {
		p.sink = s
	}
	p.mu.Unlock()
	p.settle(t) // what was left for want of a sink
}

// Accept accepts a tunnel that Sink.Tunnel has offered, once. window is what the
// other side may send. If the tunnel has ended meanwhile, s.Aborted is called.
func (p *Tunnel) Accept(t *link.Turn, window uint32, headers []byte, s TunnelSink) {
	p.Offered(t, s)
	if !p.leave(t, event{kind: kindOpened, n: window, body: headers}) {
		p.fail(t, CodeInvalid, textTunnelRules, true, false)
	}
}

// Data sends a part of a message. False: it is beyond what the other side has allowed,
// or after Finish, or before the tunnel is open; it was not sent, and
// the session breaks the protocol.
func (p *Tunnel) Data(t *link.Turn, last bool, payload []byte) bool {
	return p.leave(t, event{kind: kindData, last: last, body: payload})
}

// Allow lets the other side send n bytes more. Beyond 2^31-1 unused ones the tunnel
// ends as invalid.
func (p *Tunnel) Allow(t *link.Turn, n uint32) {
	if !p.leave(t, event{kind: kindAllow, n: n}) {
		p.fail(t, CodeInvalid, textTunnelRules, true, false)
	}
}

// Finish is the end of what this side sends. What was sent before is delivered.
func (p *Tunnel) Finish(t *link.Turn) {
	if !p.leave(t, event{kind: kindFinish}) {
		p.fail(t, CodeInvalid, textTunnelRules, true, false)
	}
}

// Abort ends the tunnel at once. Before Accept it is a refusal. The other side
// gets the code and the text. A code that is none of the list counts as CodeFailed.
func (p *Tunnel) Abort(t *link.Turn, code Code, text []byte) {
	if code > CodeInvalid {
		code = CodeFailed
	}
	p.mu.Lock()
	if p.state.leave(event{kind: kindAbort}) == pass {
		p.end = ending{tellOther: true, code: code, text: bytes.Clone(text)}
	}
	p.mu.Unlock()
	p.settle(t)
}

// leave hands an event of the session to the other side. False: it breaks the rules.
func (p *Tunnel) leave(t *link.Turn, e event) bool {
	p.mu.Lock()
	v := p.state.leave(e)
	other := p.other
	if v != pass {
		p.mu.Unlock()
		return v != deny
	}
	p.busy++
	p.mu.Unlock()
	err := other.hand(t, p, e)
	p.done(t, err)
	return true
}

// hand takes an event of the other side. An end that was not taken, or was given up
// for another member, hears nothing any more. It implements side.
func (p *Tunnel) hand(t *link.Turn, from *Tunnel, e event) error {
	p.arrive(t, from, e)
	return nil
}

// close implements side: the other end has ended on this node, and has told so.
func (p *Tunnel) close(bool) {}

// arrive handles an event of the other side.
func (p *Tunnel) arrive(t *link.Turn, from side, e event) {
	p.mu.Lock()
	if p.other != from {
		p.mu.Unlock()
		return
	}
	v := p.state.arrive(e)
	switch {
	case v == ignore:
		p.mu.Unlock()
		return
	case v == retry:
		p.other = nil
		p.mu.Unlock()
		from.close(false)
		p.node.refused(t, p, e.code != CodeNoService)
		return
	case v == deny:
		p.mu.Unlock()
		p.fail(t, CodeLost, textTunnelBroken, false, true)
		return
	case e.kind == kindAbort:
		p.end = ending{tellSink: true, code: e.code, text: bytes.Clone(e.body)}
		p.mu.Unlock()
		p.settle(t)
		return
	}
	p.busy++
	sink, early, finished := p.sink, p.state.early, p.state.finished.out
	p.mu.Unlock()
	if e.kind == kindOpened {
		p.node.answered(p)
	}
	p.done(t, p.tell(t, sink, from, e, early, finished))
}

// tell tells the session an event of the other side, and the other side what the
// session has done before the tunnel was open.
func (p *Tunnel) tell(t *link.Turn, sink TunnelSink, other side, e event, early uint32, finished bool) (err error) {
	switch e.kind {
	case kindOpened:
		sink.Opened(t, e.n, e.body)
		if early > 0 {
			err = other.hand(t, p, event{kind: kindAllow, n: early})
		}
		if finished && err == nil {
			err = other.hand(t, p, event{kind: kindFinish})
		}
	case kindData:
		sink.Data(t, e.last, e.body)
	case kindAllow:
		sink.Allow(t, e.n)
	case kindFinish:
		sink.Finish(t)
	}
	return err
}

// fail ends the tunnel for a reason of this node's own. The session is told;
// the other side too, unless what connects to it is broken.
func (p *Tunnel) fail(t *link.Turn, code Code, text string, tellOther, broken bool) {
	p.mu.Lock()
	if p.state.phase != phaseEnded {
		p.state.phase = phaseEnded
		p.end = ending{tellSink: true, tellOther: tellOther, code: code, text: []byte(text), broken: broken}
	}
	p.mu.Unlock()
	p.settle(t)
}

// done is the end of being busy. err means that the other side is lost.
func (p *Tunnel) done(t *link.Turn, err error) {
	p.mu.Lock()
	p.busy--
	switch {
	case err == nil || p.end.done:
	case p.state.phase == phaseEnded: // the other side misses what came before
		p.end.broken, p.end.tellOther = true, false
	default:
		p.state.phase = phaseEnded
		p.end = ending{tellSink: true, code: CodeLost, text: []byte(textTunnelBroken), broken: true}
	}
	ended := p.state.phase == phaseEnded
	p.mu.Unlock()
	if ended {
		p.settle(t)
	}
}

// settle carries out the end, if there is one and nobody is busy.
func (p *Tunnel) settle(t *link.Turn) {
	p.mu.Lock()
	if p.state.phase != phaseEnded || p.busy > 0 {
		p.mu.Unlock()
		return
	}
	todo, other, sink := p.end, p.other, p.sink
	tell := todo.tellSink && sink != nil
	if tell {
		p.end.tellSink = false
	}
	p.end.done, p.end.tellOther = true, false
	p.mu.Unlock()

	if !todo.done {
		if todo.tellOther && other != nil {
			if other.hand(t, p, event{kind: kindAbort, code: todo.code, body: todo.text}) != nil {
				todo.broken = true
			}
		}
		if other != nil {
			other.close(todo.broken)
		}
		p.node.unregister(p)
	}
	if tell {
		sink.Aborted(t, todo.code, todo.text)
	}
}
