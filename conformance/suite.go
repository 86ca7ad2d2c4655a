package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// atOnce is how many cases are played at the same time by a Suite that does not say.
const atOnce = 16

var (
	// ErrNoCase says that a filter matched no case.
	ErrNoCase = errors.New("conformance: no case matches the filter")
	// ErrNoEndpoint says that nobody could be attached to.
	ErrNoEndpoint = errors.New("conformance: attach to the endpoint")
	errNoEndpoint = errors.New("dial")
)

// A Suite is what to play and against whom: exactly one of Dial and Subject is set.
type Suite struct {
	Dial     func(context.Context) (net.Conn, error) // mode relay: attaches to the endpoint
	Port     int                                     // mode relay: of the endpoint. If zero, cases that need it are unsupported
	Subject  []string                                // mode binding: the program that drives it, and its arguments
	Filter   string                                  // plays only cases whose ID contains it
	Patience time.Duration                           // for what should come at once. If zero, 5 seconds
	AtOnce   int                                     // how many cases. If zero, 16
	Slow     bool                                    // plays the slow cases too: those that wait for what comes after 15 seconds

	only func(Case, Shape) bool // which to play. If nil, all
}

// Run plays the cases, several at once, each in every shape. The results come in
// the order of Cases. In mode relay a bystander must not notice anything. An
// error is of the run as a whole; there may be results all the same.
func (s Suite) Run(ctx context.Context) ([]Result, error) {
	report, err := s.Report(ctx)
	return report.Results, err
}

// Report is Run with what is to be told besides the results.
func (s Suite) Report(ctx context.Context) (Report, error) {
	r := Report{Schema: Schema, Mode: Relay, Began: time.Now().UTC()}
	if s.Subject != nil {
		r.Mode = Binding
	}
	plays := s.plays(r.Mode)
	if len(plays) == 0 {
		return r, ErrNoCase
	}
	var err error
	if r.Mode == Binding {
		r.Subject, err = s.runBinding(ctx, plays)
	} else {
		err = s.runRelay(ctx, plays)
	}
	r.Took = time.Since(r.Began)
	for _, p := range plays {
		if p.result.Outcome != "" {
			r.Results = append(r.Results, p.result)
		}
	}
	return r, err
}

// A play is one case in one shape.
type play struct {
	c      Case
	result Result
	again  bool // the subject was gone, maybe for another's sake
}

func (s Suite) plays(mode Mode) []*play {
	var plays []*play
	for _, c := range of(mode, s.Filter) {
		for _, shape := range []Shape{Whole, Chopped, Coalesced} {
			if c.whole && shape != Whole || c.slow && !s.Slow || s.only != nil && !s.only(c, shape) {
				continue
			}
			plays = append(plays, &play{c: c, result: Result{ID: c.ID, Clause: c.Clause, Level: c.Level, Shape: shape}})
		}
	}
	return plays
}

func (s Suite) patience() time.Duration {
	if s.Patience == 0 {
		return defaultPatience
	}
	return s.Patience
}

// each calls fn for all plays, several at once; those that are to be alone come last.
func (s Suite) each(ctx context.Context, plays []*play, fn func(i int, p *play)) {
	places := make(chan struct{}, max(1, cmp.Or(s.AtOnce, atOnce)))
	var wg sync.WaitGroup
	for i, p := range plays {
		if p.c.alone || ctx.Err() != nil {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			fn(i, p)
		})
	}
	wg.Wait()
	for i, p := range plays {
		if p.c.alone && ctx.Err() == nil {
			fn(i, p)
		}
	}
}

func (s Suite) runRelay(ctx context.Context, plays []*play) error {
	bystander := &player{dial: s.Dial, answers: true, patience: s.patience(), shape: Whole, refs: map[ref]any{}, conns: map[string]*conn{}, changed: make(chan struct{})}
	defer bystander.end()
	if err := (&attaching{}).play(ctx, bystander, defaultConn); err != nil {
		return fmt.Errorf("%w: %w", ErrNoEndpoint, err)
	}
	run := fmt.Sprintf("-%d", time.Now().UnixNano())
	s.each(ctx, plays, func(i int, p *play) {
		p.play(ctx, &player{dial: s.Dial, port: s.Port, patience: s.patience(), shape: p.result.Shape, unique: fmt.Sprintf("%s-%d", run, i)})
	})
	if err := (&openAssertion{}).play(ctx, bystander, defaultConn); err != nil {
		return fmt.Errorf("conformance: a client that did nothing wrong: %w", err)
	}
	return ctx.Err()
}

func (p *play) play(ctx context.Context, with *player) {
	began := time.Now()
	err := with.play(ctx, p.c)
	p.result.Took = time.Since(began)
	p.result.Close = with.grade
	switch {
	case err == nil:
		p.result.Outcome = Pass
		return
	case errors.Is(err, errNoPort):
		p.result.Outcome = Unsupported
	case errors.Is(err, errCrashed):
		p.result.Outcome = Broke
	case p.c.Level == Must:
		p.result.Outcome = Fail
	default:
		p.result.Outcome = NonStrict
	}
	p.result.Why = err.Error()
	p.result.Trace = with.trace.lines()
}

// runBinding starts the subject, and starts it again when it crashes. Cases that
// a crash ended are played again alone, to find out whose it was.
func (s Suite) runBinding(ctx context.Context, plays []*play) (Info, error) {
	dir, err := os.MkdirTemp("", "iris-conformance")
	if err != nil {
		return Info{}, err
	}
	defer os.RemoveAll(dir)
	r := &runner{suite: s, dir: dir}
	if err := r.start(ctx); err != nil {
		return Info{}, err
	}
	info := r.subject.info
	s.each(ctx, plays, func(i int, p *play) { r.play(ctx, i, p) })
	for i, p := range plays {
		if !p.again || ctx.Err() != nil {
			continue
		}
		p.result.Outcome, p.result.Why, p.result.Trace = "", "", nil
		r.play(ctx, i, p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = r.subject.failed()
	}
	if r.broken != nil || r.subject.gone() {
		r.subject.kill()
		return info, r.broken
	}
	return info, errors.Join(r.subject.stop(), ctx.Err())
}

// A runner plays against a subject, and its successors.
type runner struct {
	suite Suite
	dir   string

	mu      sync.Mutex // guards the fields below
	subject *subject
	broken  error
	runs    int
}

func (r *runner) start(ctx context.Context) error {
	subject, err := startSubject(ctx, r.suite.Subject, r.dir)
	if err != nil {
		return err
	}
	r.subject = subject
	return nil
}

// alive is the subject, a new one if it is gone.
func (r *runner) alive(ctx context.Context) (*subject, int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = r.subject.failed()
	}
	if r.broken == nil && r.subject.gone() {
		r.broken = r.start(ctx)
	}
	r.runs++
	return r.subject, r.runs, r.broken
}

func (r *runner) play(ctx context.Context, i int, p *play) {
	subject, run, err := r.alive(ctx)
	if err != nil {
		return
	}
	for _, need := range p.c.Needs {
		if !slices.Contains(subject.info.Features, need) {
			p.result.Outcome, p.result.Why = Unsupported, "the subject has no "+need
			return
		}
	}
	p.play(ctx, &player{subject: subject, patience: r.suite.patience(), shape: p.result.Shape, unique: fmt.Sprintf("-%d-%d", i, run)})
	if p.result.Outcome == Pass {
		return
	}
	if p.result.Outcome != Broke && !subject.responds(ctx) {
		p.result.Outcome = Broke
		p.result.Why += "; the subject hangs"
	}
	p.again = p.result.Outcome == Broke
	p.result.Log = subject.tail()
}
