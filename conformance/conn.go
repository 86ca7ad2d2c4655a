package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// A Shape is how the bytes of a case are cut into writes.
type Shape string

// The shapes in which every case is played.
const (
	Whole     Shape = "whole"     // each frame in one write
	Chopped   Shape = "chopped"   // one byte a write
	Coalesced Shape = "coalesced" // all that may be sent before something is awaited, in one write
)

const (
	// maxChopped is how many bytes of one write are sent one at a time; the rest
	// of a large one follows whole.
	maxChopped = 256
	// maxContent bounds the frames that are read.
	maxContent = 2 << 20
	// maxQueued bounds the frames that wait to be looked at.
	maxQueued = 8192
	// writePatience bounds a write to a side that does not read.
	writePatience = 10 * time.Second
)

// A conn is one connection of a case. A goroutine reads it; the player writes.
type conn struct {
	net.Conn
	name  string
	shape Shape
	p     *player

	writing sync.Mutex // guards held and the order of writes
	held    []byte     // coalesced: not yet sent

	// The fields below are guarded by the player's mu.
	queue   []arrival
	state   *monitor // of what the other side may do; nil: nobody watches
	stalled bool
	closed  bool // by the player
}

// An arrival is a frame, or the end of the connection.
type arrival struct {
	op     op
	fields []any
	err    error
}

// send writes b in the connection's shape.
func (c *conn) send(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	switch c.shape {
	case Coalesced:
		c.held = append(c.held, b...)
		return nil
	case Chopped:
		for len(b) > 0 && len(b) <= maxChopped {
			if _, err := c.Write(b[:1]); err != nil {
				return ignoreBroken(err)
			}
			b = b[1:]
		}
	}
	_, err := c.Write(b)
	return ignoreBroken(err)
}

// sendNow writes b ahead of what is held.
func (c *conn) sendNow(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := c.Write(b)
	return ignoreBroken(err)
}

func (c *conn) flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(c.held) == 0 {
		return nil
	}
	_ = c.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := c.Write(c.held)
	c.held = nil
	return ignoreBroken(err)
}

// ignoreBroken drops the error of a write to a side that has closed: what it had
// to say is still to be read.
func ignoreBroken(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && !op.Timeout() {
		return nil
	}
	return err
}

// isEnd tells whether the other side has closed: in good order, or at once.
func isEnd(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.As(err, &op) && !op.Timeout()
}

// read reads until the connection ends.
func (c *conn) read() {
	for {
		c.p.awaitReading(c)
		frame, content, err := readFrame(c)
		var a arrival
		if err == nil {
			a.op, a.fields, err = parseContent(content)
		}
		a.err = err
		if err == nil || !c.p.over(c) {
			c.p.trace.add(c.name, received, frame, err)
		}
		if !c.p.arrived(c, a, frame) {
			if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && isEnd(err) {
				_ = half.CloseWrite() // whoever ends a connection waits for that. relay.md 6.4
			}
			return
		}
	}
}

// readFrame reads one frame: all its bytes, and its content alone.
func readFrame(r io.Reader) (frame, content []byte, err error) {
	head := make([]byte, 5, 64)
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, nil, err
	}
	width := strings.IndexByte("\xc4\xc5\xc6", head[0])
	if width < 0 {
		return head[:1], nil, fmt.Errorf("a frame begins with %#02x (3.1)", head[0])
	}
	head = head[:1+1<<width]
	if n, err := io.ReadFull(r, head[1:]); err != nil {
		return head[:1+n], nil, broken(err)
	}
	var n uint64
	for _, digit := range head[1:] {
		n = n<<8 | uint64(digit)
	}
	if n > maxContent {
		return head, nil, fmt.Errorf("a frame of %d bytes (4.2)", n)
	}
	frame = append(head, make([]byte, n)...)
	if got, err := io.ReadFull(r, frame[len(head):]); err != nil {
		return frame[:len(head)+got], nil, broken(err)
	}
	return frame, frame[len(head):], nil
}

// broken is the end of a connection within a frame.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("within a frame: %w", io.EOF)
	}
	return err
}

func parseContent(content []byte) (o op, fields []any, err error) {
	v, rest, err := parseValue(content, 16)
	if err != nil || len(rest) > 0 {
		return op{}, nil, fmt.Errorf("% x: %w", content[:min(len(content), 64)], errors.Join(err, errValue))
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return op{}, nil, errValue
	}
	number, ok := list[0].(uint64)
	if !ok || number > 255 {
		return op{}, nil, errValue
	}
	return opOf(byte(number)), list[1:], nil
}
