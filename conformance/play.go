package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"reflect"
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
	// patience is how long something may take that should come at once.
	patience = 5 * time.Second
	// handshakePatience is how long the end of an unfinished opening may take:
	// relay.md 2.8.
	handshakePatience = 12 * time.Second
	// maxChopped is how many bytes of one write are sent one at a time; the rest
	// of a large one follows whole.
	maxChopped = 256
	// maxContent bounds the frames that are read.
	maxContent = 2 << 20
)

// A player plays one case in one shape.
type player struct {
	dial   func(context.Context) (net.Conn, error)
	shape  Shape
	unique string // makes the cluster names of this run its own
	refs   map[Ref]uint64
	conns  map[int]*conn
}

// A conn is one connection of a case.
type conn struct {
	net.Conn
	held []byte // coalesced: not yet sent
}

// play returns what went wrong.
func (p *player) play(ctx context.Context, c Case) error {
	p.refs, p.conns = map[Ref]uint64{}, map[int]*conn{}
	defer func() {
		for _, c := range p.conns {
			_ = c.Close()
		}
	}()
	for i, s := range c.Steps {
		if err := p.step(ctx, s); err != nil {
			return fmt.Errorf("step %d of %d (%s): %w", i+1, len(c.Steps), s, err)
		}
	}
	return nil
}

// String tells what the step is.
func (s Step) String() string {
	switch {
	case s.Attach != nil:
		return fmt.Sprintf("attach %q", s.Attach.Cluster)
	case s.Dial:
		return "dial"
	case s.Send != nil:
		return fmt.Sprintf("send op %#02x", s.Send.Op)
	case s.Raw != nil:
		return fmt.Sprintf("send % x", s.Raw[:min(len(s.Raw), 64)])
	case s.Expect != nil:
		return fmt.Sprintf("expect op %#02x", s.Expect.Op)
	case s.End != "":
		return "expect the end, " + s.End
	case s.Alive:
		return "expect an answer to a ping"
	}
	return "close"
}

func (p *player) step(ctx context.Context, s Step) error {
	if s.Attach != nil || s.Dial {
		return p.open(ctx, s)
	}
	c := p.conns[s.On]
	switch {
	case s.Send != nil:
		return p.write(c, appendFrame(nil, s.Send.Op, p.resolve(s.Send.Fields)...))
	case s.Raw != nil:
		return p.write(c, s.Raw)
	case s.Finish:
		return errors.Join(c.flush(), c.Close())
	}
	for _, other := range p.conns { // what is awaited may be an answer to what any of them sent
		if err := other.flush(); err != nil {
			return err
		}
	}
	switch {
	case s.Expect != nil:
		return p.expect(c, *s.Expect)
	case s.Alive:
		return p.alive(c)
	}
	return p.end(c, s.End)
}

// open dials, and with a hello awaits the welcome.
func (p *player) open(ctx context.Context, s Step) error {
	nc, err := p.dial(ctx)
	if err != nil {
		return err
	}
	c := &conn{Conn: nc}
	p.conns[s.On] = c
	if s.Dial {
		return nil
	}
	cluster := s.Attach.Cluster
	if cluster != "" {
		cluster += p.unique
	}
	if err := p.write(c, appendFrame(nil, opHello, "iris", 1, 1, cluster, none(), []any{})); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	return p.expect(c, Frame{opWelcome, []any{uint64(1)}})
}

// write sends b in the player's shape.
func (p *player) write(c *conn, b []byte) error {
	switch p.shape {
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

func (p *player) resolve(fields []any) []any {
	var out []any
	for _, f := range fields {
		switch f := f.(type) {
		case Ref:
			out = append(out, p.refs[f])
		case Name:
			out = append(out, string(f)+p.unique)
		default:
			out = append(out, f)
		}
	}
	return out
}

// expect reads a frame and compares it.
func (p *player) expect(c *conn, want Frame) error {
	op, fields, err := c.read(patience)
	if err != nil {
		return err
	}
	if op != want.Op {
		return fmt.Errorf("op %#02x %v came", op, fields)
	}
	if len(fields) < len(want.Fields) {
		return fmt.Errorf("%d fields came, want at least %d", len(fields), len(want.Fields))
	}
	for i, w := range want.Fields {
		if !p.matches(w, fields[i]) {
			return fmt.Errorf("field %d is %v, want %v", i+1, fields[i], w)
		}
	}
	return nil
}

func (p *player) matches(want, got any) bool {
	switch w := want.(type) {
	case Any:
		return true
	case Between:
		n, ok := got.(uint64)
		return ok && n >= w.Low && n <= w.High
	case Name:
		return got == string(w)+p.unique
	case Ref:
		n, ok := got.(uint64)
		known, isKnown := p.refs[w]
		if ok && !isKnown {
			p.refs[w] = n
			return true
		}
		return ok && n == known
	case []byte:
		b, ok := got.([]byte)
		return ok && bytes.Equal(w, b)
	case map[string]any:
		m, ok := got.(map[string]any)
		return ok && maps.Equal(w, m)
	}
	return reflect.DeepEqual(want, got)
}

// alive sends a ping; the pong may come behind answers to what was sent before.
func (p *player) alive(c *conn) error {
	const token = uint64(0xa11ce)
	if _, err := c.Write(appendFrame(nil, opPing, token)); err != nil {
		return err
	}
	for {
		op, fields, err := c.read(patience)
		if err != nil {
			return fmt.Errorf("no pong: %w", err)
		}
		if op == opBye {
			return fmt.Errorf("the connection was ended: %v", fields)
		}
		if op == opPong && len(fields) > 0 && fields[0] == token {
			return nil
		}
	}
}

// end awaits the end of the connection, announced with code.
func (p *player) end(c *conn, code string) error {
	wait := patience
	if code == "handshake-timeout" {
		wait = handshakePatience
	}
	told := ""
	for {
		op, fields, err := c.read(wait)
		switch {
		case isEnd(err) && (code == "any" || told == code):
			return nil
		case isEnd(err):
			return fmt.Errorf("ended with %q, want %q", told, code)
		case err != nil:
			return err
		case told != "":
			return fmt.Errorf("op %#02x came behind the last frame", op)
		case op == opRefuse || op == opBye:
			told = codeName(fields)
		}
	}
}

// isEnd tells whether the other side has closed: in good order, or at once.
func isEnd(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.As(err, &op) && !op.Timeout()
}

func codeName(fields []any) string {
	for name, code := range codes {
		if len(fields) > 0 && fields[0] == code {
			return name
		}
	}
	return fmt.Sprint(fields...)
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
