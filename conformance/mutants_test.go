package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	update     = flag.Bool("update", false, "write docs/mutants.md")
	allMutants = flag.Bool("all-mutants", false, "play all cases against every mutant, not only those of its themes")
)

// A mutant is a mistake of a double, and all the cases that can see it.
type mutant struct {
	mistake string
	does    string // if the mistake's name does not say it
	cases   []string
}

// quick is how soon a double pings, and gives up, while slow cases are played.
const quick = 300 * time.Millisecond

// longSteps is from how many steps on a case is left out for the mutants that it
// is not meant for.
const longSteps = 200

// slow tells whether slow cases see a mutant; then only these are played.
func (m mutant) slow() bool {
	return slices.ContainsFunc(embedded(), func(c Case) bool { return c.slow && slices.Contains(m.cases, c.ID) })
}

// plays tells which cases are played against a mutant in which shape: those that
// see it in every shape, the others whole. Without -all-mutants the others are
// those of the same files, but for the long ones; with the race detector, which
// looks for something else, there are none.
func (m mutant) plays() func(Case, Shape) bool {
	slow, files := m.slow(), map[string]bool{}
	for _, c := range embedded() {
		files[c.file] = files[c.file] || slices.Contains(m.cases, c.ID)
	}
	return func(c Case, shape Shape) bool {
		switch {
		case slices.Contains(m.cases, c.ID):
			return true
		case shape != Whole || slow || c.slow || raceDetector && !*allMutants:
			return false
		}
		return *allMutants || files[c.file] && !c.alone && len(c.steps) < longSteps
	}
}

// failing are the cases that do not pass, by id, with what they say. One that is
// not meant to fail is played again with more patience: the machine may be slow.
func (m mutant) failing(t *testing.T, run func(Suite) ([]Result, error)) map[string]string {
	play := func(s Suite) map[string]string {
		s.Slow = m.slow()
		results, err := run(s)
		if err != nil {
			t.Errorf("%s: %v", m.mistake, err)
		}
		failing := map[string]string{}
		for _, r := range results {
			if r.Outcome != Pass {
				failing[r.ID] += fmt.Sprintf("\n\t%s, %s: %s", r.Outcome, r.Shape, r.Why)
			}
		}
		return failing
	}
	plays := m.plays()
	failing := play(Suite{Patience: 700 * time.Millisecond, only: plays})
	doubtful := func(c Case, shape Shape) bool {
		return failing[c.ID] != "" && !slices.Contains(m.cases, c.ID) && plays(c, shape)
	}
	for range 2 {
		if !slices.ContainsFunc(embedded(), func(c Case) bool { return doubtful(c, Whole) }) {
			break
		}
		again := play(Suite{Patience: 4 * time.Second, AtOnce: 4, only: doubtful})
		maps.DeleteFunc(failing, func(id, _ string) bool { return again[id] == "" && !slices.Contains(m.cases, id) })
		maps.Copy(failing, again)
	}
	return failing
}

// hunt plays against all mutants, several at once, and compares.
func hunt(t *testing.T, mutants []mutant, run func(m mutant, s Suite) ([]Result, error)) {
	places := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for _, m := range mutants {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			failing := m.failing(t, func(s Suite) ([]Result, error) { return run(m, s) })
			for id, why := range failing {
				if !slices.Contains(m.cases, id) {
					t.Errorf("%q is seen by %s, which is not in the table:%s", m.mistake, id, why)
				}
			}
			for _, id := range m.cases {
				if failing[id] == "" {
					t.Errorf("%q is not seen by %s", m.mistake, id)
				}
			}
		})
	}
	wg.Wait()
}

func TestEveryBrokenRelayIsCaughtByItsCasesAlone(t *testing.T) {
	hunt(t, relayMutants, func(m mutant, s Suite) ([]Result, error) {
		fake := newFake(t, m.mistake)
		if m.slow() {
			fake.quiet = quick
		}
		s.Dial, s.Port = fake.dial, fake.port()
		return s.Run(t.Context())
	})
}

func TestEveryBrokenBindingIsCaughtByItsCasesAlone(t *testing.T) {
	hunt(t, bindingMutants, func(m mutant, s Suite) ([]Result, error) {
		s.Subject = []string{os.Args[0], "fake-subject", m.mistake}
		if m.slow() {
			s.Subject = append(s.Subject, quick.String())
		}
		return s.Run(t.Context())
	})
}

// The table of the mutants is that of the document.
func TestTheMutantsAreDocumented(t *testing.T) {
	const path = "docs/mutants.md"
	var b bytes.Buffer
	b.WriteString("# Broken relays and bindings\n\nThe suite proves itself: each of these mistakes, made by a test double, is caught by the cases beside it, in every shape, and by no other.\n" +
		"Written by `go test . -run Documented -args -update`; do not edit.\n")
	for _, part := range []struct {
		title   string
		mutants []mutant
	}{{"Relays", relayMutants}, {"Bindings", bindingMutants}} {
		fmt.Fprintf(&b, "\n## %s: %d\n\n| mistake | caught by |\n|---|---|\n", part.title, len(part.mutants))
		seen := map[string]bool{}
		for _, m := range part.mutants {
			require.False(t, seen[m.mistake], "%s: twice", m.mistake)
			seen[m.mistake] = true
			require.NotEmpty(t, m.cases, m.mistake)
			text := m.mistake
			if m.does != "" {
				text += ": " + m.does
			}
			fmt.Fprintf(&b, "| %s |", text)
			for i, id := range m.cases {
				require.True(t, slices.ContainsFunc(embedded(), func(c Case) bool { return c.ID == id }), id)
				if i > 0 {
					b.WriteString(",")
				}
				fmt.Fprintf(&b, " `%s`", id)
			}
			b.WriteString(" |\n")
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(text), "run with -args -update")
}
