package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
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
)

// A conn is one connection of a case.
type conn struct {
	net.Conn
	shape Shape
	held  []byte // coalesced: not yet sent
}

// write sends b in the connection's shape.
func (c *conn) write(b []byte) error {
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

func (c *conn) flush() error {
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.Write(c.held)
	c.held = nil
	return ignoreBroken(err)
}

// ignoreBroken drops the error of a write to an endpoint that has closed: what
// it had to say is still to be read.
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

// read reads one frame.
func (c *conn) read(wait time.Duration) (op byte, fields []any, err error) {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, nil, err
	}
	var head [5]byte
	if _, err := io.ReadFull(c, head[:1]); err != nil {
		return 0, nil, err
	}
	width := strings.IndexByte("\xc4\xc5\xc6", head[0])
	if width < 0 {
		return 0, nil, fmt.Errorf("a frame begins with %#02x", head[0])
	}
	size := head[1 : 1+(1<<width)]
	if _, err := io.ReadFull(c, size); err != nil {
		return 0, nil, err
	}
	var n uint64
	for _, digit := range size {
		n = n<<8 | uint64(digit)
	}
	if n > maxContent {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(c, content); err != nil {
		return 0, nil, err
	}
	return parseContent(content)
}

func parseContent(content []byte) (op byte, fields []any, err error) {
	v, rest, err := parseValue(content, 16)
	if err != nil || len(rest) > 0 {
		return 0, nil, fmt.Errorf("% x: %w", content[:min(len(content), 64)], errors.Join(err, errValue))
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return 0, nil, errValue
	}
	number, ok := list[0].(uint64)
	if !ok || number > 255 {
		return 0, nil, errValue
	}
	return byte(number), list[1:], nil
}
