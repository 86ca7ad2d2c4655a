// Package report tells what a run of the conformance suite found: as text, JUnit's
// XML, one HTML file and a badge. It writes nothing but what it is asked for.
package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/project-iris/iris/conformance"
)

// Text writes what did not pass, with the trace, and the sum.
func Text(w io.Writer, r conformance.Report) error {
	var b strings.Builder
	for _, result := range r.Results {
		if result.Outcome == conformance.Pass || result.Outcome == conformance.Unsupported {
			continue
		}
		outcome := strings.ToUpper(string(result.Outcome))
		if result.Known {
			outcome = "KNOWN"
		}
		fmt.Fprintf(&b, "%s %s (%s, %s)\n     %s\n", outcome, result.ID, result.Shape, result.Level, result.Why)
		if result.Known {
			continue
		}
		for _, line := range result.Trace {
			fmt.Fprintf(&b, "     %s\n", line)
		}
		if result.Log != "" {
			fmt.Fprintf(&b, "     log: %s\n", strings.ReplaceAll(strings.TrimSpace(result.Log), "\n", "\n          "))
		}
	}
	b.WriteString(Sum(r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Sum is a line with the number of each outcome, and of connections that did not end well.
func Sum(r conformance.Report) string {
	text := fmt.Sprintf("%d passed", r.Count(conformance.Pass))
	for _, o := range []conformance.Outcome{conformance.NonStrict, conformance.Fail, conformance.Broke, conformance.Unsupported} {
		if n := r.Count(o); n > 0 || o == conformance.Fail {
			text += fmt.Sprintf(", %d %s", n, o)
		}
	}
	known, reset := 0, 0
	for _, result := range r.Results {
		if result.Known {
			known++
		}
		if result.Close == conformance.GradeReset {
			reset++
		}
	}
	if known > 0 {
		text += fmt.Sprintf(" (%d known)", known)
	}
	if reset > 0 {
		text += fmt.Sprintf("; %d connections ended with a reset behind the last frame", reset)
	}
	return text + fmt.Sprintf("; %.1f s", r.Took.Seconds())
}
