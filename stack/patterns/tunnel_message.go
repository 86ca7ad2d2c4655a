package patterns

import (
	"encoding/binary"
	"math"
	"time"
)

// Messages on a tunnel's stream. Integers are big-endian, the last field takes
// the rest of the message. The budget is that of requests.
//
//	open    | 1 | budget 4 | window 4 | cluster n 2 | cluster | headers |   the first, of the node that opens
//	opened  | 2 | window 4 | headers |    accepted
//	data    | 3 | last 1 | payload |      costs len(payload) + 64 of what was allowed
//	allow   | 4 | n 4 |
//	finish  | 5 |                         no more data from this side; allowances still come
//	abort   | 6 | code 1 | text |         before opened it is a refusal
//
// A node ends its side of the stream (FIN) after abort, and after both finishes.
// A FIN before that, or a message that has no place in the state of the tunnel,
// breaks the stream.
const (
	kindOpen   kind = 1
	kindOpened kind = 2
	kindData   kind = 3
	kindAllow  kind = 4
	kindFinish kind = 5
	kindAbort  kind = 6
)

// An Open asks for a tunnel.
type Open struct {
	ID      uint64 // the client's for Port.Open; the node's own, with the highest bit set, for Sink.Tunnel
	Cluster []byte
	Budget  time.Duration // time left for it to be accepted; negative: no deadline
	Window  uint32        // what the side that opens allows the other to send
	Headers []byte        // encoded as they came, opaque
}

// appendOpen appends a whole open message.
func appendOpen(b []byte, o Open) []byte {
	b = append(b, byte(kindOpen))
	b = binary.BigEndian.AppendUint32(b, budgetMillis(o.Budget))
	b = binary.BigEndian.AppendUint32(b, o.Window)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Cluster)))
	b = append(b, o.Cluster...)
	return append(b, o.Headers...)
}

// parseOpen reads an open message in place.
func parseOpen(b []byte) (Open, error) {
	p := parser{b: b}
	p.kind(kindOpen)
	o := Open{Budget: -1}
	if ms := p.uint32(); ms != noBudget {
		o.Budget = time.Duration(ms) * time.Millisecond
	}
	o.Window = p.uint32()
	o.Cluster = p.take(uint32(p.uint16()))
	o.Headers = p.b
	if len(o.Cluster) == 0 || o.Window > maxAllowed {
		return Open{}, errMalformed
	}
	return o, p.err()
}

// appendEvent appends the message of an event, without its body.
func appendEvent(b []byte, e event) []byte {
	b = append(b, byte(e.kind))
	switch e.kind {
	case kindOpened, kindAllow:
		b = binary.BigEndian.AppendUint32(b, e.n)
	case kindData:
		last := byte(0)
		if e.last {
			last = 1
		}
		b = append(b, last)
	case kindAbort:
		b = append(b, byte(e.code))
	}
	return b
}

// parseEvent reads any message but an open, in place.
func parseEvent(b []byte) (event, error) {
	p := parser{b: b}
	e := event{kind: kind(p.uint8())}
	switch e.kind {
	case kindOpened:
		e.n, e.body = p.uint32(), p.b
	case kindAllow:
		e.n = p.uint32()
		p.bad = p.bad || len(p.b) > 0
	case kindData:
		last := p.uint8()
		e.last, e.body = last == 1, p.b
		p.bad = p.bad || last > 1 || uint64(len(e.body)) > math.MaxInt32
	case kindFinish:
		p.bad = p.bad || len(p.b) > 0
	case kindAbort:
		e.code, e.body = Code(p.uint8()), p.b
		p.bad = p.bad || e.code > CodeInvalid
	default:
		p.bad = true
	}
	if p.bad {
		return event{}, errMalformed
	}
	return e, nil
}
