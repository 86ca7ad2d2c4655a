package conformance

import "time"

// An Outcome is how a case went in one shape.
type Outcome string

// The outcomes.
const (
	Pass        Outcome = "pass"
	NonStrict   Outcome = "non-strict"  // what the clause only recommends or allows was not found
	Fail        Outcome = "fail"        // what the clause demands was not found
	Unsupported Outcome = "unsupported" // the subject does not have the feature
	Broke       Outcome = "error"       // the subject crashed or was gone
)

// A Result is how one case went in one shape.
type Result struct {
	ID      string        `json:"id"`
	Clause  string        `json:"clause"`
	Level   Level         `json:"level"`
	Shape   Shape         `json:"shape"`
	Outcome Outcome       `json:"outcome"`
	Known   bool          `json:"known,omitempty"` // it is in the list of known failures
	Close   Grade         `json:"close,omitempty"` // how the connections ended
	Why     string        `json:"why,omitempty"`   // it did not pass
	Took    time.Duration `json:"took"`            // nanoseconds
	Trace   []Line        `json:"trace,omitempty"` // if it did not pass
	Log     string        `json:"log,omitempty"`   // the end of the subject's log, if it did not pass
}

// Schema is the version of a Report. It grows when a field changes its meaning or goes.
const Schema = 1

// A Report is what a run tells.
type Report struct {
	Schema  int           `json:"schema"`
	Mode    Mode          `json:"mode"`
	Subject Info          `json:"subject"` // mode binding
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"` // nanoseconds
	Results []Result      `json:"results"`
}

// Count is how many results have an outcome.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, result := range r.Results {
		if result.Outcome == o {
			n++
		}
	}
	return n
}

// Failed counts the results that make a run fail: failures and errors that are not known.
func Failed(results []Result) int {
	n := 0
	for _, r := range results {
		if (r.Outcome == Fail || r.Outcome == Broke) && !r.Known {
			n++
		}
	}
	return n
}
