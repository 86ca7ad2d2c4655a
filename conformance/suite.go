package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// atOnce is how many cases are played at the same time.
const atOnce = 16

// ErrNoCase says that a filter matched no case.
var ErrNoCase = errors.New("conformance: no case matches the filter")

// A Suite is what to play and against whom.
type Suite struct {
	Dial     func(context.Context) (net.Conn, error) // attaches to the endpoint
	Filter   string                                  // plays only cases whose ID contains it
	Patience time.Duration                           // for what should come at once. If zero, 5 seconds
}

// A Result is how one case went in one shape.
type Result struct {
	ID    string        `json:"id"`
	Level Level         `json:"level"`
	Shape Shape         `json:"shape"`
	Pass  bool          `json:"pass"`
	Why   string        `json:"why,omitempty"` // it did not
	Took  time.Duration `json:"took"`
}

// Run plays the cases, several at once, each in every shape, while a bystander
// must not notice anything. The results come in the order of Cases.
func (s Suite) Run(ctx context.Context) ([]Result, error) {
	var results []Result
	var plays []Case
	for _, c := range Cases() {
		if !strings.Contains(c.ID(), s.Filter) {
			continue
		}
		for _, shape := range []Shape{Whole, Chopped, Coalesced} {
			results = append(results, Result{ID: c.ID(), Level: c.Level, Shape: shape})
			plays = append(plays, c)
		}
	}
	if len(plays) == 0 {
		return nil, ErrNoCase
	}
	patience := s.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	bystander := player{dial: s.Dial, patience: patience, shape: Whole, conns: map[int]*conn{}}
	if err := bystander.open(ctx, attach(0, "")); err != nil {
		return nil, fmt.Errorf("conformance: attach to the endpoint: %w", err)
	}
	defer bystander.conns[0].Close()
	run := fmt.Sprintf("-%d", time.Now().UnixNano())
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range results {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			results[i].play(ctx, plays[i], player{dial: s.Dial, patience: patience, shape: results[i].Shape, unique: fmt.Sprintf("%s-%d", run, i)})
		})
	}
	wg.Wait()
	if err := bystander.alive(bystander.conns[0]); err != nil {
		return results, fmt.Errorf("conformance: a client that did nothing wrong: %w", err)
	}
	return results, nil
}

func (r *Result) play(ctx context.Context, c Case, p player) {
	began := time.Now()
	if err := p.play(ctx, c); err != nil {
		r.Why = err.Error()
	}
	r.Pass = r.Why == ""
	r.Took = time.Since(began)
}

// Failed counts the results that did not pass.
func Failed(results []Result) int {
	n := 0
	for _, r := range results {
		if !r.Pass {
			n++
		}
	}
	return n
}
