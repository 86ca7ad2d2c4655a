package patterns

import "math"

const (
	maxAllowed   = math.MaxInt32 // bytes that a side may have been allowed and not yet sent
	dataOverhead = 64            // that each data costs, besides its payload
)

// An event is what happens to one end of a tunnel: on the other side, or at its
// own session.
type event struct {
	kind kind
	n    uint32 // of opened: the window, of allow: how much more
	last bool   // of data
	code Code   // of abort
	body []byte // headers, payload or text
}

// cost is what the other side must have allowed for a data.
func (e event) cost() uint64 { return uint64(len(e.body)) + dataOverhead }

// phase is how far one end of a tunnel is.
type phase uint8

const (
	phaseOpening phase = iota // this side asks for it
	phaseOffered              // this side is asked for it
	phaseOpen
	phaseEnded
)

// verdict is what to do about an event.
type verdict uint8

const (
	ignore verdict = iota // it crossed the tunnel's end, or comes to nothing
	pass                  // hand it on
	keep                  // hand it on once the tunnel is open
	retry                 // the other side has provably not started: try another member
	deny                  // it breaks the rules
)

// tunnelState is one end of a tunnel: what each event does to it. The two
// methods are all that changes it.
type tunnelState struct {
	phase    phase
	in, out  uint32 // what this side has allowed, and what it is allowed
	early    uint32 // allowed while opening: to be told once open
	finished struct{ in, out bool }
}

// add raises an allowance; false: beyond the most there can be.
func add(allowed *uint32, n uint32) bool {
	if n > maxAllowed || *allowed > maxAllowed-n {
		return false
	}
	*allowed += n
	return true
}

// spend lowers an allowance; false: it does not reach.
func spend(allowed *uint32, cost uint64) bool {
	if cost > uint64(*allowed) {
		return false
	}
	*allowed -= uint32(cost)
	return true
}

// leave takes an event of this side's own session. Denied means that the session
// breaks the protocol; the state is as before then.
func (s *tunnelState) leave(e event) verdict {
	switch {
	case s.phase == phaseEnded:
		return ignore
	case e.kind == kindAbort:
		s.phase = phaseEnded
		return pass
	case s.phase == phaseOffered && e.kind != kindOpened:
		return deny
	}
	switch e.kind {
	case kindOpened:
		if s.phase != phaseOffered || e.n > maxAllowed {
			return deny
		}
		s.phase, s.in = phaseOpen, e.n
	case kindData:
		if s.finished.out || !spend(&s.out, e.cost()) {
			return deny
		}
	case kindAllow:
		if !add(&s.in, e.n) {
			return deny
		}
		if s.phase == phaseOpening {
			s.early += e.n // at most s.in
			return keep
		}
	case kindFinish:
		if s.finished.out {
			return ignore
		}
		s.finished.out = true
		if s.phase == phaseOpening {
			return keep
		}
		s.endIfFinished()
	}
	return pass
}

// arrive takes an event of the other side. Denied means that the peer breaks the
// protocol.
func (s *tunnelState) arrive(e event) verdict {
	switch {
	case s.phase == phaseEnded:
		return ignore
	case e.kind == kindAbort:
		if s.phase == phaseOpening && unstarted(e.code) {
			return retry
		}
		s.phase = phaseEnded
		return pass
	case e.kind == kindOpened:
		if s.phase != phaseOpening || e.n > maxAllowed {
			return deny
		}
		s.phase, s.out = phaseOpen, e.n
		return pass
	case s.phase != phaseOpen:
		return deny
	}
	switch e.kind {
	case kindData:
		if s.finished.in || !spend(&s.in, e.cost()) {
			return deny
		}
	case kindAllow:
		if !add(&s.out, e.n) {
			return deny
		}
	case kindFinish:
		if s.finished.in {
			return deny
		}
		s.finished.in = true
		s.endIfFinished()
	}
	return pass
}

func (s *tunnelState) endIfFinished() {
	if s.finished.in && s.finished.out {
		s.phase = phaseEnded
	}
}

// unstarted is whether a refusal with this code lets another member be tried.
func unstarted(c Code) bool {
	return c == CodeNoService || c == CodeOverloaded || c == CodeClosing
}
