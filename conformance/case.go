// Package conformance judges whether an endpoint, or a binding, speaks the relay
// protocol of spec/relay.md. It plays cases, each a script of frames and raw
// bytes with what must come back: as a client against a live endpoint, or as the
// node against a subject, a small program that drives a binding (docs/subject.md).
// It shares no code with the relay or the sdk. A Suite is for one run at a time.
package conformance

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/project-iris/iris/spec"
)

// A Level is how binding the clause behind a case is.
type Level string

// The levels of relay.md, as in RFC 2119.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
)

// A Mode is who is judged, and so which side the suite plays.
type Mode string

// The modes. The ids of their cases begin with them, in capitals.
const (
	Relay   Mode = "relay"   // an endpoint
	Binding Mode = "binding" // a client
)

// A Case is a script that proves one clause.
type Case struct {
	ID     string   // RELAY-<clause>-<number>/<name> or BINDING-…
	Clause string   // of relay.md
	Mode   Mode     // who is judged
	Level  Level    // how binding the clause is
	Needs  []string // features without which a subject is not judged, docs/subject.md
	Why    string   // what it proves, for people; may be empty
	Script string   // the steps as they are written

	file     string // where it is written
	endpoint string // where the subject finds the suite: tcp (empty), unix or unsafe
	whole    bool   // played in one shape: its bytes are few, or its time is long
	alone    bool   // no other case at the same time
	slow     bool   // takes a quarter of a minute or longer: played when asked for
	steps    []step
}

//go:embed cases
var files embed.FS

// Cases lists all cases, those of mode relay first.
func Cases() []Case { return slices.Clone(embedded()) }

// embedded loads once. That the files are good is tested.
var embedded = sync.OnceValue(func() []Case {
	cases, err := load(files)
	if err != nil {
		panic(fmt.Sprintf("conformance: the embedded cases: %v", err))
	}
	return cases
})

// of are the cases of a mode whose id contains filter.
func of(mode Mode, filter string) []Case {
	return slices.DeleteFunc(Cases(), func(c Case) bool { return c.Mode != mode || !strings.Contains(c.ID, filter) })
}

// Clause is the text of a clause of relay.md, with its tables and examples.
func Clause(number string) (string, bool) {
	_, rest, found := strings.Cut(spec.Relay, "\n**"+number+"** ")
	if !found {
		return "", false
	}
	for _, next := range []string{"\n**", "\n## "} {
		rest, _, _ = strings.Cut(rest, next)
	}
	return "**" + number + "** " + strings.TrimSpace(rest), true
}
