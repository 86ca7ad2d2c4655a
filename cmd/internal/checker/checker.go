// Package checker records what was sent and what was delivered and finds what
// must never happen, whatever fails in between: a request executed twice, an
// outcome that contradicts the execution or comes late, an event out of order or
// twice, a tunnel that delivers something else than a prefix of what was sent.
//
// A History is safe for concurrent use. It keeps a few words for every
// operation, never payloads.
package checker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// An Outcome is how a request ended.
type Outcome string

// The outcomes of a request.
const (
	Answered   Outcome = "answered"
	Failed     Outcome = "failed" // the service's own error
	Timeout    Outcome = "timeout"
	Lost       Outcome = "lost"
	NoService  Outcome = "no service"
	Overloaded Outcome = "overloaded"
	Closed     Outcome = "closed" // the client's own connection
	Untyped    Outcome = "untyped"
)

// executions says how often a request with an outcome may have been executed.
var executions = map[Outcome][2]int{
	Answered: {1, 1}, Failed: {1, 1}, Timeout: {0, 1}, Lost: {0, 1}, NoService: {0, 0}, Overloaded: {0, 0}, Closed: {0, 1}, Untyped: {0, -1},
}

// maxViolations bounds how many violations are kept; all are counted.
const maxViolations = 100

// A History is what happened.
type History struct {
	mu         sync.Mutex // guards the fields below
	requests   map[uint64]*request
	last       uint64
	streams    map[stream]uint64
	tunnels    map[uint64]*tunnel
	counts     map[string]int
	violations []error
	violated   int
}

type request struct {
	sent     time.Time
	deadline time.Duration
	outcome  Outcome // empty: none yet
	executed int
}

// A stream is what one receiver hears from one sender under one name.
type stream struct {
	receiver, sender uint64
	name             string
}

type tunnel struct {
	sent, received uint64 // messages
	closed         bool   // the sender closed it and was told that everything was delivered
}

// New returns an empty history.
func New() *History {
	return &History{
		requests: map[uint64]*request{},
		streams:  map[stream]uint64{},
		tunnels:  map[uint64]*tunnel{},
		counts:   map[string]int{},
	}
}

// ID returns a number that no other thing of this history has.
func (h *History) ID() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	return h.last
}

// Requested notes that a request is about to be sent, and returns its number,
// which the service must hand to Executed.
func (h *History) Requested(deadline time.Duration) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.requests[h.last] = &request{sent: time.Now(), deadline: deadline}
	return h.last
}

// Executed notes that a service begins to handle a request.
func (h *History) Executed(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.requests[id]
	if r == nil {
		h.violate("request %d was executed and never sent", id)
		return
	}
	if r.executed++; r.executed > 1 {
		h.violate("request %d was executed %d times", id, r.executed)
	}
}

// Ended notes the outcome of a request. slack is how much later than its
// deadline it may come.
func (h *History) Ended(id uint64, o Outcome, slack time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts["request "+string(o)]++
	r := h.requests[id]
	if took := time.Since(r.sent); took > r.deadline+slack {
		h.violate("request %d ended as %s after %v, its deadline was %v", id, o, took, r.deadline)
	}
	if r.outcome != "" {
		h.violate("request %d ended as %s and as %s", id, r.outcome, o)
	}
	r.outcome = o
	if o == Untyped {
		h.violate("request %d ended without a typed outcome", id)
	}
}

// Delivered notes that receiver got message number sequence (from 1) of sender
// under a name: a topic or a cluster.
func (h *History) Delivered(receiver, sender uint64, name string, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := stream{receiver, sender, name}
	if last := h.streams[s]; sequence <= last {
		h.violate("%s: receiver %d got number %d of sender %d after number %d", name, receiver, sequence, sender, last)
	}
	h.streams[s] = max(h.streams[s], sequence)
	h.counts["delivered"]++
}

// TunnelSent notes that message number sequence (from 1) was accepted by a tunnel.
func (h *History) TunnelSent(id, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tunnel(id).sent = sequence
}

// TunnelReceived notes that the other end of a tunnel got a message, whose number
// is sequence.
func (h *History) TunnelReceived(id, sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tunnel(id)
	if sequence != t.received+1 {
		h.violate("tunnel %d delivered message %d after message %d", id, sequence, t.received)
	}
	t.received = sequence
	h.counts["tunnel messages"]++
}

// TunnelClosed notes that the sender closed a tunnel and was told that the other
// end got everything.
func (h *History) TunnelClosed(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tunnel(id).closed = true
	h.counts["tunnels closed"]++
}

func (h *History) tunnel(id uint64) *tunnel {
	if h.tunnels[id] == nil {
		h.tunnels[id] = &tunnel{}
	}
	return h.tunnels[id]
}

// Count adds to a named count of the report.
func (h *History) Count(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[name]++
}

func (h *History) violate(format string, args ...any) {
	h.violated++
	if len(h.violations) < maxViolations {
		h.violations = append(h.violations, fmt.Errorf(format, args...))
	}
}

// Check is called when everything has ended. It returns what went wrong, or nil.
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(h.requests)) {
		r := h.requests[id]
		if r.outcome == "" {
			h.violate("request %d never ended", id)
			continue
		}
		if bounds := executions[r.outcome]; r.executed < bounds[0] || bounds[1] >= 0 && r.executed > bounds[1] {
			h.violate("request %d ended as %s and was executed %d times", id, r.outcome, r.executed)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.tunnels)) {
		t := h.tunnels[id]
		if t.received > t.sent {
			h.violate("tunnel %d delivered %d messages, sent were %d", id, t.received, t.sent)
		}
		if t.closed && t.received != t.sent {
			h.violate("tunnel %d was closed in good order and delivered %d of %d messages", id, t.received, t.sent)
		}
	}
	if h.violated == 0 {
		return nil
	}
	return errors.Join(append(h.violations, fmt.Errorf("%d violations in all", h.violated))...)
}

// Counts returns how many operations ended in which way.
func (h *History) Counts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.counts)
}
