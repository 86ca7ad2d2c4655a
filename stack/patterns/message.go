package patterns

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// kind is the first byte of a message.
type kind uint8

const (
	kindRequest kind = 1
	kindReply   kind = 2
	kindRefusal kind = 3
	kindCancel  kind = 4
)

// noBudget travels for a request without a deadline.
const noBudget = math.MaxUint32

var errMalformed = errors.New("patterns: malformed message")

// A refusal is a request that comes back unexecuted.
type refusal struct {
	id               uint64
	why              reason
	headers, payload []byte
}

// appendRequest appends all of a request but its payload.
func appendRequest(b []byte, flow uint32, r Request) []byte {
	b = append(b, byte(kindRequest))
	b = binary.BigEndian.AppendUint64(b, r.ID)
	b = binary.BigEndian.AppendUint32(b, flow)
	b = binary.BigEndian.AppendUint32(b, budgetMillis(r.Budget))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Cluster)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	b = append(b, r.Cluster...)
	return append(b, r.Headers...)
}

// parseRequest reads a request in place: the result points into b.
func parseRequest(b []byte) (r Request, flow uint32, err error) {
	p := parser{b: b}
	p.kind(kindRequest)
	r.ID = p.uint64()
	flow = p.uint32()
	r.Budget = -1
	if ms := p.uint32(); ms != noBudget {
		r.Budget = time.Duration(ms) * time.Millisecond
	}
	cluster, headers := uint32(p.uint16()), p.uint32()
	r.Cluster, r.Headers = p.take(cluster), p.take(headers)
	r.Payload = p.b
	return r, flow, p.err()
}

// appendReply appends all of a reply but its payload.
func appendReply(b []byte, r Reply) []byte {
	b = append(b, byte(kindReply))
	b = binary.BigEndian.AppendUint64(b, r.ID)
	b = append(b, byte(r.Code))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Text)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	b = append(b, r.Text...)
	return append(b, r.Headers...)
}

// parseReply reads a reply in place. A code that is none of the list of
// outcomes is malformed: clients rely on the list.
func parseReply(b []byte) (Reply, error) {
	p := parser{b: b}
	p.kind(kindReply)
	r := Reply{ID: p.uint64(), Code: Code(p.uint8())}
	text, headers := p.uint32(), p.uint32()
	r.Text, r.Headers = p.take(text), p.take(headers)
	r.Payload = p.b
	if r.Code > CodeInvalid {
		return Reply{}, errMalformed
	}
	return r, p.err()
}

// appendRefusal appends all of a refusal but the payload.
func appendRefusal(b []byte, id uint64, why reason, headers []byte) []byte {
	b = append(b, byte(kindRefusal))
	b = binary.BigEndian.AppendUint64(b, id)
	b = append(b, byte(why))
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	return append(b, headers...)
}

// parseRefusal reads a refusal in place.
func parseRefusal(b []byte) (refusal, error) {
	p := parser{b: b}
	p.kind(kindRefusal)
	r := refusal{id: p.uint64(), why: reason(p.uint8())}
	r.headers = p.take(p.uint32())
	r.payload = p.b
	if r.why < reasonOverloaded || r.why > reasonNoMember {
		return refusal{}, errMalformed
	}
	return r, p.err()
}

func appendCancel(b []byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(kindCancel)), id)
}

func parseCancel(b []byte) (id uint64, err error) {
	p := parser{b: b}
	p.kind(kindCancel)
	id = p.uint64()
	if len(p.b) > 0 {
		return 0, errMalformed
	}
	return id, p.err()
}

// budgetMillis rounds up, so that a member never ends a request early and only
// an exhausted budget travels as zero.
func budgetMillis(d time.Duration) uint32 {
	if d < 0 {
		return noBudget
	}
	whole := d / time.Millisecond
	if d%time.Millisecond > 0 {
		whole++
	}
	return uint32(min(whole, noBudget-1))
}

// A parser walks over a message in place. After its first error it yields
// zero values, so that a caller asks for err once, at the end.
type parser struct {
	b   []byte // what is left
	bad bool
}

// take yields the next n bytes; it never allocates.
func (p *parser) take(n uint32) []byte {
	if p.bad || uint64(n) > uint64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	taken := p.b[:n:n]
	p.b = p.b[n:]
	return taken
}

func (p *parser) kind(want kind) {
	if kind(p.uint8()) != want {
		p.bad, p.b = true, nil
	}
}

func (p *parser) uint8() uint8 {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) uint16() uint16 {
	if b := p.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (p *parser) uint32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (p *parser) err() error {
	if p.bad {
		return errMalformed
	}
	return nil
}
