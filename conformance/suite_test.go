package conformance

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// judge plays the cases whose id contains filter against a fake.
func judge(t *testing.T, mistake, filter string, patience time.Duration) []Result {
	t.Helper()
	fake := newFake(t, mistake)
	results, err := Suite{Dial: fake.dial, Port: fake.port(), Filter: filter, Patience: patience}.Run(t.Context())
	require.NoError(t, err)
	return results
}

func TestAnEndpointThatFollowsTheSpecificationPasses(t *testing.T) {
	results := judge(t, "", "", 0)
	require.Len(t, results, len(Suite{}.plays(Relay)))
	var failed []string
	for _, r := range results {
		if r.Outcome != Pass {
			failed = append(failed, fmt.Sprintf("%s (%s): %s", r.ID, r.Shape, r.Why))
		}
	}
	require.Empty(t, failed)
}

// Slow cases are played when asked for, and a bystander stays.
func TestSlowCasesArePlayedWhenAskedFor(t *testing.T) {
	fake := newFake(t, "")
	fake.quiet = quick
	slow := func(c Case, _ Shape) bool { return c.slow }
	results, err := Suite{Dial: fake.dial, Slow: true, only: slow}.Run(t.Context())
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Zero(t, Failed(results))
	_, err = Suite{Dial: fake.dial, only: slow}.Run(t.Context())
	require.ErrorIs(t, err, ErrNoCase)
}

func TestAFilterThatMatchesNothingIsAnError(t *testing.T) {
	_, err := Suite{Filter: "no such case"}.Run(t.Context())
	require.ErrorIs(t, err, ErrNoCase)
}
