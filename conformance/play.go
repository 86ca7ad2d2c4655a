package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"time"
)

const (
	// defaultPatience is that of a Suite that does not say.
	defaultPatience = 5 * time.Second
	// handshakePatience is how long the end of an unfinished opening may take:
	// relay.md 2.8.
	handshakePatience = 12 * time.Second
)

// A player plays one case in one shape.
type player struct {
	dial     func(context.Context) (net.Conn, error)
	patience time.Duration
	shape    Shape
	unique   string // makes the names of this run its own
	refs     map[Ref]uint64
	conns    map[int]*conn
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
		return c.write(appendFrame(nil, s.Send.Op, p.resolve(s.Send.Fields)...))
	case s.Raw != nil:
		return c.write(s.Raw)
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
	c := &conn{Conn: nc, shape: p.shape}
	p.conns[s.On] = c
	if s.Dial {
		return nil
	}
	cluster := s.Attach.Cluster
	if cluster != "" {
		cluster += p.unique
	}
	if err := c.write(appendFrame(nil, opHello, "iris", 1, 1, cluster, none(), []any{})); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	return p.expect(c, Frame{opWelcome, []any{uint64(1)}})
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
	op, fields, err := c.read(p.patience)
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
		op, fields, err := c.read(p.patience)
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
	wait := p.patience
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

func codeName(fields []any) string {
	for name, code := range codes {
		if len(fields) > 0 && fields[0] == code {
			return name
		}
	}
	return fmt.Sprint(fields...)
}
