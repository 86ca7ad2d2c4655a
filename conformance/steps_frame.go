package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A sending sends a frame, or a mutation of it.
type sending struct {
	frame      pattern
	mutate     func([]byte) []byte // nil: as it is
	regardless bool                // mode binding: whether the client has room for it or not
}

func parseSend(w *written) (action, error) {
	f, err := parseFrame(w.value)
	if err != nil {
		return nil, err
	}
	s := &sending{frame: f}
	if n := w.take("regardless"); n != nil {
		s.regardless = n.Value == "true"
	}
	if n := w.take("mutate"); n != nil {
		if s.mutate, err = parseMutation(n.Value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parseMutation reads what is to be done to the bytes of a frame.
func parseMutation(text string) (func([]byte) []byte, error) {
	what, arg, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(strings.TrimPrefix(arg, "+"), 0, 32)
	switch {
	case what == "duplicate" && arg == "":
		return func(b []byte) []byte { return append(slices.Clone(b), b...) }, nil
	case err != nil:
	case what == "truncate": // leave out the last n bytes
		return func(b []byte) []byte { return b[:max(0, len(b)-int(n))] }, nil
	case what == "flip": // all bits of the byte at n, counted from 0
		return func(b []byte) []byte {
			b = slices.Clone(b)
			b[int(n)%len(b)] ^= 0xff
			return b
		}, nil
	case what == "length": // declare n, or n more with a sign
		return func(b []byte) []byte { return redeclare(b, n, strings.HasPrefix(arg, "+")) }, nil
	}
	return nil, fmt.Errorf("a mutation is truncate N, flip N, length N, length +N or duplicate, not %q", text)
}

// redeclare gives a frame another length in its head, of 32 bits.
func redeclare(frame []byte, n uint64, more bool) []byte {
	head := map[byte]int{0xc4: 2, 0xc5: 3, 0xc6: 5}[frame[0]]
	if more {
		n += uint64(len(frame) - head)
	}
	return append([]byte{0xc6, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, frame[head:]...)
}

func (s *sending) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	fields := p.resolve(s.frame.fields)
	if c.state != nil && s.mutate == nil {
		if err := p.awaitRoom(ctx, c, s, fields); err != nil {
			return err
		}
	}
	b := appendFrame(nil, s.frame.op.code, fields...)
	if s.mutate != nil {
		b = s.mutate(b)
	}
	p.trace.add(on, sent, b, nil)
	return c.send(b)
}

// awaitRoom waits for the credit or the allowance that a node needs.
func (p *player) awaitRoom(ctx context.Context, c *conn, s *sending, fields []any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.regardless && !c.state.room(s.frame, fields) {
		p.mu.Unlock()
		err := p.wait(ctx, p.patience, func() (bool, error) { return c.state.room(s.frame, fields), nil })
		p.mu.Lock()
		if err != nil {
			return fmt.Errorf("the client leaves no room for it: %w", err)
		}
	}
	c.state.goes(s.frame, fields)
	return nil
}

// A rawSending sends bytes.
type rawSending struct{ bytes []byte }

func parseSendRaw(w *written) (action, error) {
	var b []byte
	var err error
	if w.value.Kind == yaml.MappingNode {
		b, err = parseBytes(w.value)
	} else {
		b, err = parseHex(w.value.Value)
	}
	if err == nil && len(b) == 0 {
		err = errors.New("no bytes")
	}
	return &rawSending{b}, err
}

func (s *rawSending) play(_ context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	p.trace.add(on, sent, s.bytes, nil)
	return c.send(s.bytes)
}

// An expecting awaits frames, in any order if there are several.
type expecting struct {
	frames   []pattern
	skipping bool // other frames may come before
	within   time.Duration
}

func parseExpect(w *written) (action, error) {
	f, err := parseFrame(w.value)
	e := &expecting{frames: []pattern{f}}
	if n := w.take("skipping"); n != nil {
		e.skipping = n.Value == "true"
	}
	if n := w.take("within"); n != nil && err == nil {
		e.within, err = parseDuration(n)
	}
	return e, err
}

func parseAnyOrder(w *written) (action, error) {
	e := &expecting{}
	for _, n := range w.value.Content {
		f, err := parseFrame(n)
		if err != nil {
			return nil, err
		}
		e.frames = append(e.frames, f)
	}
	if len(e.frames) < 2 {
		return nil, errors.New("want at least two frames")
	}
	return e, nil
}

func (e *expecting) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	left := slices.Clone(e.frames)
	for len(left) > 0 {
		a, err := p.next(ctx, c, max(e.within, p.patience), p.ignoring(left))
		switch {
		case err != nil:
			return fmt.Errorf("want %s: %w", left[0], err)
		case a.err != nil:
			return fmt.Errorf("want %s: the connection ended: %w", left[0], a.err)
		}
		var mismatch error
		i := slices.IndexFunc(left, func(want pattern) bool {
			mismatch = p.compare(want, a.op, a.fields)
			return mismatch == nil
		})
		switch {
		case i < 0 && e.skipping:
			continue
		case i < 0:
			return mismatch
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

// ignoring are the ops that a client may send at any time, but for those wanted.
func (p *player) ignoring(wanted []pattern) func(op) bool {
	if p.server == nil {
		return nil
	}
	return func(o op) bool {
		for _, w := range wanted {
			if w.op.name == o.name {
				return false
			}
		}
		return o.name == "credit" || o.name == "ping" || o.name == "allow"
	}
}

// An awaitCredit waits until a client has granted credit of a kind in all, less
// what was used.
type awaitCredit struct {
	kind  uint64
	least uint64
}

func parseAwaitCredit(w *written) (action, error) {
	kind, known := creditKinds[w.value.Value]
	if !known {
		return nil, fmt.Errorf("unknown kind %q", w.value.Value)
	}
	a := &awaitCredit{kind, 1}
	if n := w.take("least"); n != nil {
		v, err := parseNumber(aNumber, n)
		if a.least, known = v.(uint64); err != nil || !known {
			return nil, errors.New("least: want an integer")
		}
	}
	return a, nil
}

func (a *awaitCredit) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	return p.wait(ctx, p.patience, func() (bool, error) { return c.state != nil && c.state.credit[a.kind] >= a.least, nil })
}

// An awaitAllowance waits until a client allows so many bytes on a tunnel.
type awaitAllowance struct {
	tunnel any
	least  uint64
}

func parseAwaitAllowance(w *written) (action, error) {
	if w.value.Kind != yaml.SequenceNode || len(w.value.Content) != 2 {
		return nil, errors.New("want [tunnel, bytes]")
	}
	tunnel, err := parseNumber(anID, w.value.Content[0])
	if err != nil {
		return nil, err
	}
	least, err := strconv.ParseUint(w.value.Content[1].Value, 0, 32)
	return &awaitAllowance{tunnel, least}, err
}

func (a *awaitAllowance) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	id, _ := p.resolve([]any{a.tunnel})[0].(uint64)
	return p.wait(ctx, p.patience, func() (bool, error) {
		t := c.state.tunnels[id]
		return t != nil && t.ours >= int64(a.least), nil
	})
}
