package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	aliveToken = uint64(0xa11ce)
	quietToken = uint64(0xcafe)
)

// An openAssertion: a ping is answered; other frames may come before.
type openAssertion struct{}

func parseAssertOpen(w *written) (action, error) { return &openAssertion{}, empty(w.value) }

func (*openAssertion) play(ctx context.Context, p *player, on string) error {
	return p.fence(ctx, on, aliveToken, func(op) bool { return true })
}

// A quietAssertion: nothing is on its way, for the answer to a ping comes next.
type quietAssertion struct{ after time.Duration }

func parseAssertNoFrame(w *written) (action, error) {
	if w.value.Tag == "!!null" {
		return &quietAssertion{}, nil
	}
	d, err := parseDuration(w.value)
	return &quietAssertion{d}, err
}

func (a *quietAssertion) play(ctx context.Context, p *player, on string) error {
	if err := (&delaying{a.after}).play(ctx, p, on); err != nil {
		return err
	}
	return p.fence(ctx, on, quietToken, p.ignoring(nil))
}

// fence sends a ping and awaits its answer; frames that skip names may come before.
func (p *player) fence(ctx context.Context, on string, token uint64, skip func(op) bool) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	ping, _ := opNamed("ping")
	if err := (&sending{frame: pattern{ping, []any{token}}}).play(ctx, p, on); err != nil {
		return err
	}
	for {
		a, err := p.next(ctx, c, p.patience, nil)
		switch {
		case err != nil:
			return fmt.Errorf("no pong: %w", err)
		case a.err != nil:
			return fmt.Errorf("no pong: the connection ended: %w", a.err)
		case a.op.name == "bye":
			return fmt.Errorf("the connection was ended: %s", describe(a.op, a.fields))
		case a.op.name == "pong" && a.fields[0] == token:
			return nil
		case skip == nil || !skip(a.op):
			return fmt.Errorf("%s came, want nothing", describe(a.op, a.fields))
		}
	}
}

// A closeAssertion: the other side ends the connection, and says why.
type closeAssertion struct {
	code   string // any: with a last frame or without
	within time.Duration
}

func parseAssertClosed(w *written) (action, error) {
	a := &closeAssertion{code: w.value.Value}
	if _, known := codes[a.code]; !known && a.code != "any" {
		return nil, fmt.Errorf("unknown code %q", a.code)
	}
	if a.code == "handshake-timeout" {
		a.within = handshakePatience
	}
	if n := w.take("within"); n != nil {
		var err error
		if a.within, err = parseDuration(n); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (s *closeAssertion) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	told := ""
	for deadline := time.Now().Add(max(s.within, p.patience)); ; {
		a, err := p.next(ctx, c, time.Until(deadline), nil)
		switch {
		case err != nil:
			return fmt.Errorf("it did not end: %w", err)
		case a.err != nil && (s.code == "any" || told == s.code):
			p.rate(told, a.err)
			return nil
		case a.err != nil:
			return fmt.Errorf("ended with %q, want %q", told, s.code)
		case told != "":
			return fmt.Errorf("%s came behind the last frame", describe(a.op, a.fields))
		case a.op.name == "refuse" || a.op.name == "bye":
			if told = codeName(a.fields[0]); told == "" {
				told = fmt.Sprint(a.fields[0])
			}
		}
	}
}

// rate grades the end of a connection; the worst stays.
func (p *player) rate(told string, err error) {
	grade := GradeClean
	switch {
	case told == "":
		grade = GradeSilent
	case !errors.Is(err, io.EOF):
		grade = GradeReset
	}
	if p.grade == GradeNone || grade == GradeSilent || p.grade == GradeClean {
		p.grade = grade
	}
}

// A shortAssertion: all frames so far were in the shortest form. relay.md 3.3.
type shortAssertion struct{}

func parseAssertShortest(w *written) (action, error) { return &shortAssertion{}, empty(w.value) }

func (*shortAssertion) play(_ context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.state.shortest
}

// A muteAssertion: no frame at all comes for a while, and the connection does not end.
type muteAssertion struct{ while time.Duration }

func parseAssertSilent(w *written) (action, error) {
	d, err := parseDuration(w.value)
	return &muteAssertion{d}, err
}

func (s *muteAssertion) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	a, err := p.next(ctx, c, s.while, p.ignoring(nil))
	switch {
	case errors.Is(err, errPatience):
		return nil
	case err != nil:
		return err
	case a.err != nil:
		return fmt.Errorf("the connection ended: %w", a.err)
	}
	return fmt.Errorf("%s came, want nothing", describe(a.op, a.fields))
}

// A pendingAssertion: a command is not answered for a while.
type pendingAssertion struct {
	name  string
	while time.Duration
}

func parseAssertPending(w *written) (action, error) {
	a := &pendingAssertion{w.value.Value, 200 * time.Millisecond}
	if n := w.take("for"); n != nil {
		var err error
		if a.while, err = parseDuration(n); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (s *pendingAssertion) play(ctx context.Context, p *player, _ string) error {
	c := p.commands[s.name]
	if c == nil {
		return fmt.Errorf("there is no command %q yet", s.name)
	}
	err := p.wait(ctx, s.while, func() (bool, error) {
		select {
		case <-c.done:
			return true, fmt.Errorf("it is answered already: %s", drawJSON(c.answer))
		default:
			return false, nil
		}
	})
	if errors.Is(err, errPatience) {
		return nil
	}
	return err
}

// A memoryAssertion: the subject holds less than so many MiB. Where the system
// does not tell, it holds.
type memoryAssertion struct{ most uint64 }

func parseAssertMemory(w *written) (action, error) {
	most, err := strconv.ParseUint(strings.TrimSuffix(w.value.Value, "MiB"), 10, 32)
	return &memoryAssertion{most}, err
}

func (s *memoryAssertion) play(_ context.Context, p *player, _ string) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.subject.cmd.Process.Pid))
	if err != nil {
		return nil
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return err
	}
	if held := resident * uint64(os.Getpagesize()) >> 20; held > s.most {
		return fmt.Errorf("the subject holds %d MiB, want at most %d", held, s.most)
	}
	return nil
}
