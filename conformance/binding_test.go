package conformance

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// judgeBinding plays the cases whose id contains filter against a fake binding.
func judgeBinding(t *testing.T, mistake, filter string, patience time.Duration) ([]Result, error) {
	t.Helper()
	return Suite{Subject: []string{os.Args[0], "fake-subject", mistake}, Filter: filter, Patience: patience}.Run(t.Context())
}

func TestABindingThatFollowsTheSpecificationPasses(t *testing.T) {
	results, err := judgeBinding(t, "", "", 0)
	require.NoError(t, err)
	require.Len(t, results, len(Suite{}.plays(Binding)))
	var failed []string
	for _, r := range results {
		if r.Outcome != Pass {
			failed = append(failed, fmt.Sprintf("%s (%s): %s: %s", r.ID, r.Shape, r.Outcome, r.Why))
		}
	}
	require.Empty(t, failed)
}

func TestWhatIsOnlyRecommendedIsNotStrict(t *testing.T) {
	for mistake, id := range map[string]string{
		"credit is not granted again": "BINDING-5.5-02/credit-is-granted-again",
		"nothing is allowed again":    "BINDING-10.5-03/what-was-taken-is-allowed-again",
		"leaving is ignored":          "BINDING-6.5-01/the-node-leaves-while-nothing-runs",
	} {
		results, err := judgeBinding(t, mistake, id, time.Second)
		require.NoError(t, err)
		require.Equal(t, NonStrict, results[0].Outcome, mistake)
		require.Zero(t, Failed(results))
	}
}

// A crash is the fault of the case that brings it about, whatever else was played.
func TestACrashIsAnErrorOfItsCase(t *testing.T) {
	results, err := judgeBinding(t, "it crashes at a tunnel", "BINDING-10.1-01", time.Second)
	require.NoError(t, err)
	for _, r := range results {
		require.Equal(t, Broke, r.Outcome, r.ID)
	}
	results, err = judgeBinding(t, "it crashes at a tunnel", "BINDING-7", time.Second)
	require.NoError(t, err)
	require.Zero(t, Failed(results))
}

func TestASubjectThatHangsIsAnErrorAndIsReplaced(t *testing.T) {
	t.Parallel()
	results, err := judgeBinding(t, "it hangs at a tunnel", "BINDING-10.10-03", 500*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Equal(t, Broke, results[0].Outcome)
	require.Contains(t, results[0].Why, "hangs")
}

func TestASubjectThatBreaksTheControlProtocolIsTold(t *testing.T) {
	for _, mistake := range []string{"an unknown op is ok", "it goes on at the end of its input"} {
		_, err := judgeBinding(t, mistake, "BINDING-2.1-01", time.Second)
		require.ErrorIs(t, err, ErrControl, mistake)
	}
	_, err := Suite{Subject: []string{"/no/such/program"}}.Run(t.Context())
	require.ErrorIs(t, err, ErrSubject)
}

func TestKnownFailuresAreExcusedAndStaleOnesTold(t *testing.T) {
	const id = "BINDING-7.1-03/overloaded"
	r, err := Suite{Subject: []string{os.Args[0], "fake-subject", "overloaded is no-service"}, Filter: "BINDING-7.1", Patience: time.Second}.Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, Failed(r.Results))
	known, err := ParseKnown([]byte("- case: " + id + "\n  why: no-service\n"))
	require.NoError(t, err)
	require.Empty(t, r.Excuse(known))
	require.Zero(t, Failed(r.Results))
	require.Equal(t, 3, r.Count(Fail))
	for _, k := range []Known{{id, "", "something else"}, {"BINDING-7.1-02/no-service", "", "x"}, {"BINDING-0.0-01/gone", "", "x"}, {id, "sideways", "no-service"}} {
		stale := r.Excuse([]Known{k})
		require.Equal(t, k.Shape == "", len(stale) == 1, "%v", k)
	}
	for _, text := range []string{"- case: x", "- colour: blue", "x: y"} {
		_, err := ParseKnown([]byte(text))
		require.Error(t, err, text)
	}
}
