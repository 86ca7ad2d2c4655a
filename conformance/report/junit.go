package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/project-iris/iris/conformance"
)

type junitSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	Suite   junitSuite
}

type junitSuite struct {
	XMLName  xml.Name `xml:"testsuite"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Time     string   `xml:"time,attr"`
	Cases    []junitCase
}

type junitCase struct {
	XMLName xml.Name      `xml:"testcase"`
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Error   *junitMessage `xml:"error,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the XML that build servers read. Known failures, and what is not
// strict, count as skipped.
func JUnit(w io.Writer, r conformance.Report) error {
	s := junitSuite{Name: "iris-conformance " + string(r.Mode), Tests: len(r.Results), Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
	for _, result := range r.Results {
		c := junitCase{Class: "relay.md " + result.Clause, Name: result.ID + " " + string(result.Shape), Time: fmt.Sprintf("%.3f", result.Took.Seconds())}
		var trace strings.Builder
		for _, line := range result.Trace {
			fmt.Fprintln(&trace, line)
		}
		message := &junitMessage{printable(result.Why), printable(trace.String())}
		switch {
		case result.Outcome == conformance.Pass:
		case result.Known, result.Outcome == conformance.NonStrict, result.Outcome == conformance.Unsupported:
			c.Skipped = message
			s.Skipped++
		case result.Outcome == conformance.Fail:
			c.Failure = message
			s.Failures++
		default:
			c.Error = message
			s.Errors++
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	return e.Encode(junitSuites{Suite: s})
}

// printable drops what XML does not allow.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
}
