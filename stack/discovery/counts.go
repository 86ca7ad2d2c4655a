package discovery

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
)

// A reason is why a datagram was turned away.
type reason int

const (
	accepted       reason = iota
	refusedSize           // not Size bytes
	refusedMagic          // not a probe
	refusedVersion        // a probe of a version that is not spoken here
	refusedKind           // of no kind, or one that does not belong on its socket
	refusedMAC            // of another network or key, or altered
	refusedSelf           // sent by this node
	refusedStray          // an answer to no recent probe of this node
	refusedRate           // a valid probe above the rate of answers, a valid call above that of calls
	refusedOutside        // a call that names no address of a node on its interface's subnets
	refusedFlood          // dropped by the system in a flood, about: each that it kept stands for so many
	reasons
)

// String is the name of r in Counts.
func (r reason) String() string {
	return [reasons]string{"accepted", "size", "magic", "version", "kind", "mac", "self", "stray", "rate", "outside", "flood"}[r]
}

// A failure is why the socket did not send or receive.
type failure int

const (
	failedRead        failure = iota // reading failed
	failedRefused                    // the host has no such port open
	failedDenied                     // a local firewall forbids it
	failedUnreachable                // no route to that host
	failedBuffers                    // the system is out of buffers
	failedCall                       // a call was not sent
	failedOther
	failures
)

// String is the name of f in Counts.
func (f failure) String() string {
	return [failures]string{"read", "refused", "denied", "unreachable", "buffers", "call", "other"}[f]
}

// failureOf sorts an error of sending.
func failureOf(err error) failure {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return failedRefused
	case errors.Is(err, fs.ErrPermission):
		return failedDenied
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return failedUnreachable
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.EAGAIN):
		return failedBuffers
	default:
		return failedOther
	}
}

// Counts says how many datagrams a Prober has handled since New.
type Counts struct {
	Sent     uint64            // probes
	Answered uint64            // probes of other nodes
	Hits     uint64            // answers to own probes
	Called   uint64            // calls sent
	Heard    uint64            // calls of other nodes that are probed for it
	Refused  map[string]uint64 // datagrams turned away: size, magic, version, kind, mac, self, stray, rate, outside, flood (about: the system drops them unseen)
	Failed   map[string]uint64 // errors of the socket: read, refused, denied, unreachable, buffers, call, other
}

// counters are Counts in the making. Safe for concurrent use.
type counters struct {
	sent, answered, hits atomic.Uint64
	called, heard        atomic.Uint64
	refused              [reasons]atomic.Uint64
	failed               [failures]atomic.Uint64
}

// snapshot copies the counters; what never happened has no entry.
func (c *counters) snapshot() Counts {
	s := Counts{
		Sent:     c.sent.Load(),
		Answered: c.answered.Load(),
		Hits:     c.hits.Load(),
		Called:   c.called.Load(),
		Heard:    c.heard.Load(),
		Refused:  make(map[string]uint64),
		Failed:   make(map[string]uint64),
	}
	for r := range reasons {
		if n := c.refused[r].Load(); n > 0 {
			s.Refused[r.String()] = n
		}
	}
	for f := range failures {
		if n := c.failed[f].Load(); n > 0 {
			s.Failed[f.String()] = n
		}
	}
	return s
}
