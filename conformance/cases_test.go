package conformance

import (
	"encoding/hex"

	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec"
	"github.com/project-iris/iris/spec/vectors"
)

func TestCasesAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		require.False(t, seen[c.ID], c.ID)
		seen[c.ID] = true
		require.NotEmpty(t, c.steps)
	}
}

// The suite and the specification are one product: what the suite judges is
// written, and what is written that binds is judged, in one mode at least.
func TestEveryClauseThatBindsHasACase(t *testing.T) {
	clauses := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\*\*(\d+\.\d+)\*\* `).FindAllStringSubmatch(spec.Relay, -1) {
		clauses[m[1]] = false
	}
	require.Greater(t, len(clauses), 60)
	for _, c := range Cases() {
		require.Contains(t, clauses, c.Clause, c.ID)
		if c.Level == Must {
			clauses[c.Clause] = true
		}
		_, known := Clause(c.Clause)
		require.True(t, known, c.ID)
	}
	binds := regexp.MustCompile(`\bMUST\b|\*\*(8|9|10)\.`)
	for clause, judged := range clauses {
		if text, _ := Clause(clause); binds.MatchString(text) {
			require.True(t, judged, "no case of level MUST is of clause %s", clause)
		}
	}
}

// Whatever bytes the specification pins are in a case of the side that gets them.
func TestEveryVectorIsInACase(t *testing.T) {
	raw := map[Mode]map[string]bool{Relay: {}, Binding: {}}
	for _, c := range Cases() {
		for _, s := range c.steps {
			if r, ok := s.action.(*rawSending); ok {
				raw[c.Mode][hex.EncodeToString(r.bytes)] = true
			}
		}
	}
	for _, v := range slices.Concat(vectors.Malformed(), vectors.Misplaced()) {
		if v.To != vectors.Client {
			require.True(t, raw[Relay][hex.EncodeToString(v.Hex)], "%s: no case of mode relay", v.Name)
		}
		if v.To != vectors.Node {
			require.True(t, raw[Binding][hex.EncodeToString(v.Hex)], "%s: no case of mode binding", v.Name)
		}
	}
	for _, v := range vectors.Truncated() {
		require.True(t, raw[Relay][hex.EncodeToString(v.Hex)] && raw[Binding][hex.EncodeToString(v.Hex)], v.Name)
	}
}

func TestAClauseHasItsText(t *testing.T) {
	text, known := Clause("10.4")
	require.True(t, known)
	require.True(t, strings.HasPrefix(text, "**10.4** `data`: op, id, last, payload."))
	require.NotContains(t, text, "10.5** `allow`")
	_, known = Clause("99.1")
	require.False(t, known)
}
