package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// A report is everything that was measured.
type report struct {
	Rounds  int            `json:"rounds"`
	Time    string         `json:"time"`
	IdleKiB map[string]int `json:"idle_kib"` // resident memory of one server, linked, with nothing to do
	Rows    []row          `json:"rows"`
}

// A row is one case on both systems: medians over the rounds.
type row struct {
	workload
	Iris  result  `json:"iris"`
	NATS  result  `json:"nats"`
	Ratio float64 `json:"ratio"` // iris to nats: of p50 with one in flight, of the rate otherwise
	Met   bool    `json:"met"`
}

// idle notes the memory of servers that have done nothing yet.
func (r *report) idle(systems ...*system) {
	r.IdleKiB = map[string]int{}
	for _, s := range systems {
		r.IdleKiB[s.name] = residentKiB(s.pids[0])
	}
}

func (r *report) add(c workload, results map[string][]result) {
	w := row{workload: c, Iris: median(results["iris"]), NATS: median(results["nats"])}
	if c.latency() {
		w.Ratio = float64(w.Iris.P50) / float64(w.NATS.P50)
		w.Met = w.Ratio <= c.Target
	} else {
		w.Ratio = w.Iris.Rate / w.NATS.Rate
		w.Met = w.Ratio >= c.Target
	}
	r.Rows = append(r.Rows, w)
}

// median takes the median of each figure.
func median(all []result) result {
	return result{
		P50:  middle(all, func(r result) time.Duration { return r.P50 }),
		P99:  middle(all, func(r result) time.Duration { return r.P99 }),
		Rate: middle(all, func(r result) float64 { return r.Rate }),
		Lost: middle(all, func(r result) float64 { return r.Lost }),
		Done: middle(all, func(r result) float64 { return r.Done }),
		CPU:  middle(all, func(r result) time.Duration { return r.CPU }),
	}
}

func middle[T cmp.Ordered](all []result, of func(result) T) T {
	var values []T
	for _, r := range all {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// printLast prints the newest row, and the head before the first.
func (r *report) printLast(w io.Writer) {
	if len(r.Rows) == 1 {
		fmt.Fprintf(w, "medians of %d rounds of %s; an idle server takes %.1f MiB (iris), %.1f MiB (nats)\n\n", r.Rounds, r.Time,
			float64(r.IdleKiB["iris"])/1024, float64(r.IdleKiB["nats"])/1024)
		fmt.Fprintf(w, "%-38s %30s %30s %21s %20s\n", "", "iris: p50 / p99 / per second", "nats: p50 / p99 / per second", "ratio (target)", "cpu, ratio")
	}
	last := r.Rows[len(r.Rows)-1]
	bound, verdict := "≥", "missed"
	if last.latency() {
		bound = "≤"
	}
	if last.Met {
		verdict = "met"
	}
	fmt.Fprintf(w, "%-38s %30s %30s %5.2f (%s %.2f) %-6s %12s %6.2f\n", last.Name, last.Iris, last.NATS, last.Ratio, bound, last.Target, verdict,
		last.Iris.CPU, float64(last.Iris.CPU)/float64(last.NATS.CPU))
}

// String shows the figures in the order of the table's head.
func (r result) String() string {
	if r.P50 > 0 {
		return fmt.Sprintf("%v / %v / %.0f", r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Rate)
	}
	return fmt.Sprintf("%.0f (%.0f %% lost)", r.Rate, 100*r.Lost)
}

func (r *report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
