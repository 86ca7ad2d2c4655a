package patterns

import (
	"encoding/binary"

	"github.com/project-iris/iris/stack/link"
)

const (
	kindBroadcast kind = 5
	kindEvent     kind = 6
)

// maxHops is how far a message to a group travels.
const maxHops = 16

// The forms of a message to a group.
const (
	formDirect = 0 // from its origin, to this node alone
	formTree   = 1 // within an interval of nodes
)

// A cast is a message to all members of a group, on its way.
type cast struct {
	kind     kind
	hops     uint8 // that it may travel yet, this one included
	flow     uint32
	sequence uint64 // of the flow; from 1
	tree     bool   // the fields below are sent
	previous uint64 // the sequence of the flow's message to the group before this one; 0: none of late
	origin   link.ID
	arc      // the receiver sees to the members of it, which it is the first of, or not in
	Message
}

// size is about the memory that a copy of c takes.
func (c *cast) size() int { return 256 + len(c.Name) + len(c.Headers) + len(c.Payload) }

// appendCast appends all of a message to a group but its payload.
func appendCast(b []byte, c *cast) []byte {
	form := byte(formDirect)
	if c.tree {
		form = formTree
	}
	b = append(b, byte(c.kind), form, c.hops)
	b = binary.BigEndian.AppendUint32(b, c.flow)
	b = binary.BigEndian.AppendUint64(b, c.sequence)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Name)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Headers)))
	if c.tree {
		b = binary.BigEndian.AppendUint64(b, c.previous)
		b = append(b, c.origin[:]...)
		b = append(b, c.lo[:]...)
		b = append(b, c.hi[:]...)
	}
	b = append(b, c.Name...)
	return append(b, c.Headers...)
}

// parseCast reads a broadcast or event in place: the result points into b. One
// that was sent directly has no origin yet.
func parseCast(b []byte) (c cast, err error) {
	p := parser{b: b}
	c.kind = kind(p.uint8())
	form := p.uint8()
	c.tree = form == formTree
	c.hops, c.flow, c.sequence = p.uint8(), p.uint32(), p.uint64()
	name, headers := uint32(p.uint16()), p.uint32()
	if c.tree {
		c.previous = p.uint64()
		copy(c.origin[:], p.take(uint32(len(c.origin))))
		copy(c.lo[:], p.take(uint32(len(c.lo))))
		copy(c.hi[:], p.take(uint32(len(c.hi))))
	}
	c.Name, c.Headers = p.take(name), p.take(headers)
	c.Payload = p.b
	switch {
	case c.kind != kindBroadcast && c.kind != kindEvent,
		form > formTree,
		c.hops == 0 || c.hops > maxHops,
		c.sequence == 0 || c.previous >= c.sequence,
		name == 0:
		return cast{}, errMalformed
	}
	return c, p.err()
}
