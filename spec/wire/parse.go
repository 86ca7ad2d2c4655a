package wire

import (
	"encoding/binary"
	"unicode/utf8"
)

// maxDepth is how deep arrays and maps may nest in fields that are skipped.
// relay.md 3.5.
const maxDepth = 8

// A parser walks over MessagePack in place. After its first error it yields
// zero values, so that a caller checks err once, at the end.
type parser struct {
	b   []byte // what is left
	err error
}

func (p *parser) fail(clause, text string) {
	if p.err == nil {
		p.err = malformed(clause, text)
		p.b = nil
	}
}

// take yields the next n bytes. It never allocates: n is checked first. After
// an error nothing is left to take.
func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.overrun()
		return nil
	}
	taken := p.b[:n:n]
	p.b = p.b[n:]
	return taken
}

func (p *parser) overrun() { p.fail("3.4", "a length exceeds the frame") }

// size reads a big-endian length of 1, 2, 4 or 8 bytes; 0 after an error.
func (p *parser) size(n uint64) uint64 {
	b := p.take(n)
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// byte reads the byte that says what follows.
func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.overrun()
		return 0xc1 // never used by MessagePack
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

// uint reads an integer of any width that is not negative.
func (p *parser) uint() uint64 {
	switch c := p.byte(); {
	case c < 0x80:
		return uint64(c)
	case c >= 0xcc && c <= 0xcf:
		return p.size(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3:
		width := uint64(1) << (c - 0xd0)
		v := p.size(width)
		if v>>(8*width-1) != 0 {
			p.fail("3.3", "an integer is negative")
			return 0
		}
		return v
	case c >= 0xe0:
		p.fail("3.3", "an integer is negative")
		return 0
	}
	p.fail("3.3", "want an integer")
	return 0
}

// uint32 reads an integer that fits 32 bits.
func (p *parser) uint32() uint32 {
	v := p.uint()
	if v > 1<<32-1 {
		p.fail("3.3", "an integer exceeds 32 bits")
		return 0
	}
	return uint32(v)
}

// code reads an integer that is a code.
func (p *parser) code() Code {
	v := p.uint()
	if v > 255 {
		p.fail("7.1", "a code exceeds 255")
		return 0
	}
	return Code(v)
}

// str reads a string of valid UTF-8.
func (p *parser) str() []byte {
	var s []byte
	switch c := p.byte(); {
	case c >= 0xa0 && c <= 0xbf:
		s = p.take(uint64(c & 0x1f))
	case c >= 0xd9 && c <= 0xdb:
		s = p.take(p.size(1 << (c - 0xd9)))
	default:
		p.fail("3.3", "want a string")
	}
	if !utf8.Valid(s) {
		p.fail("3.3", "a string is not UTF-8")
		return nil
	}
	return s
}

// bin reads bytes.
func (p *parser) bin() []byte {
	c := p.byte()
	if c < 0xc4 || c > 0xc6 {
		p.fail("3.3", "want binary")
		return nil
	}
	return p.take(p.size(1 << (c - 0xc4)))
}

// array reads the head of an array. Every element takes a byte, so a count
// beyond what is left is refused before anything is reserved for it.
func (p *parser) array() int {
	var n uint64
	switch c := p.byte(); {
	case c >= 0x90 && c <= 0x9f:
		n = uint64(c & 0x0f)
	case c == 0xdc || c == 0xdd:
		n = p.size(2 << (c - 0xdc))
	default:
		p.fail("3.3", "want an array")
	}
	return p.count(n)
}

// pairs reads the head of a map.
func (p *parser) pairs() int {
	var n uint64
	switch c := p.byte(); {
	case c >= 0x80 && c <= 0x8f:
		n = uint64(c & 0x0f)
	case c == 0xde || c == 0xdf:
		n = p.size(2 << (c - 0xde))
	default:
		p.fail("3.3", "want a map")
	}
	return p.count(2*n) / 2
}

func (p *parser) count(n uint64) int {
	if p.err != nil {
		return 0
	}
	if n > uint64(len(p.b)) {
		p.fail("3.4", "a count exceeds the frame")
		return 0
	}
	return int(n)
}

// skip passes over one value of any kind, to be well-formed down to depth.
func (p *parser) skip(depth int) {
	if depth == 0 {
		p.fail("3.5", "nested too deeply")
		return
	}
	if p.err != nil || len(p.b) == 0 {
		p.fail("3.4", "a field is missing")
		return
	}
	switch c := p.b[0]; {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		p.take(1)
	case c <= 0x8f, c == 0xde, c == 0xdf:
		p.skipAll(2*p.pairs(), depth-1)
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		p.skipAll(p.array(), depth-1)
	case c <= 0xbf, c >= 0xd9 && c <= 0xdb:
		p.str()
	case c >= 0xc4 && c <= 0xc6:
		p.bin()
	case c >= 0xc7 && c <= 0xc9: // ext
		p.take(1)
		n := p.size(1 << (c - 0xc7))
		p.take(1)
		p.take(n)
	case c == 0xca, c == 0xcb: // float
		p.take(1 + 4<<(c-0xca))
	case c >= 0xcc && c <= 0xcf:
		p.take(1 + 1<<(c-0xcc))
	case c >= 0xd0 && c <= 0xd3:
		p.take(1 + 1<<(c-0xd0))
	case c >= 0xd4 && c <= 0xd8: // fixext
		p.take(2 + 1<<(c-0xd4))
	default:
		p.fail("3.3", "0xc1 is no MessagePack")
	}
}

func (p *parser) skipAll(n, depth int) {
	for range n {
		if p.err != nil {
			return
		}
		p.skip(depth)
	}
}

// open starts parsing the content of a frame: the array, with at least fields
// fields behind op. It returns how many further ones there are.
func open(content []byte, op Op, fields int) (parser, int) {
	p := parser{b: content}
	n := p.array()
	if p.err == nil && n < 1+fields {
		p.fail("3.4", "a field is missing")
	}
	if got := p.uint(); p.err == nil && got != uint64(op) {
		p.fail("3.2", "another op")
	}
	return p, n - 1 - fields
}

// close ends parsing: further fields are ignored but must be well-formed, and
// nothing may follow the array. relay.md 3.5, 3.6.
func (p *parser) close(further int) error {
	if p.err == nil {
		p.skipAll(further, maxDepth)
	}
	if p.err == nil && len(p.b) > 0 {
		p.fail("3.6", "bytes follow the array")
	}
	return p.err
}

// ParseOp tells what the content of a frame is. An op that relay.md does not
// list is an Error.
func ParseOp(content []byte) (Op, error) {
	if len(content) == 0 {
		return 0, malformed("3.2", "a frame is empty")
	}
	p := parser{b: content}
	if p.array() < 1 {
		p.fail("3.2", "want an array that begins with an op")
	}
	op := p.uint()
	if p.err != nil {
		return 0, p.err
	}
	if op > 255 || !Op(op).known() {
		return 0, malformed("3.2", "unknown op")
	}
	return Op(op), nil
}

// maxHead is the size of the longest head of a frame.
const maxHead = 5

// parseFrameHead reads the head of a frame from b. It returns the sizes of
// head and content, or a head of 0 when b is too short to tell.
func parseFrameHead(b []byte) (head int, content uint64, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] < 0xc4 || b[0] > 0xc6 {
		return 0, 0, malformed("3.1", "a frame begins with a bin")
	}
	width := 1 << (b[0] - 0xc4)
	if len(b) < 1+width {
		return 0, 0, nil
	}
	switch width {
	case 1:
		content = uint64(b[1])
	case 2:
		content = uint64(binary.BigEndian.Uint16(b[1:]))
	default:
		content = uint64(binary.BigEndian.Uint32(b[1:]))
	}
	return 1 + width, content, nil
}
