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

func TestAMistakeOfABindingFailsItsCase(t *testing.T) {
	for mistake, id := range map[string]string{
		"a ping comes before the welcome":  "BINDING-2.1-01/the-hello-of-a-client",
		"credit is not granted":            "BINDING-5.5-01/credit-is-granted",
		"subscriptions are forgotten":      "BINDING-9.6-11/subscribed-again-once",
		"it goes without a bye":            "BINDING-10.6-04/a-second-finish",
		"headers are left out":             "BINDING-5.3-01/headers-go-out",
		"a subscribe does not wait":        "BINDING-9.3-01/a-subscribe-is-not-done-before-its-done",
		"all requests have one id":         "BINDING-5.1-02/a-thousand-requests-whose-replies-change-places",
		"a cancel is not told":             "BINDING-5.8-01/a-request-is-given-up",
		"a pong has another token":         "BINDING-6.2-11/a-ping-is-answered",
		"a payload makes a success":        "BINDING-5.4-08/a-payload-does-not-make-a-success",
		"overloaded is no-service":         "BINDING-7.1-03/overloaded",
		"a failure has a code of the node": "BINDING-5.4-14/the-handler-fails",
		"tunnels have no limit":            "BINDING-10.3-10/more-than-the-service-takes",
		"data costs its payload alone":     "BINDING-10.5-01/no-more-than-is-allowed",
		"chunks have no limit":             "BINDING-10.4-06/chunks-are-no-larger-than-the-node-allows",
		"a window is not looked at":        "BINDING-10.5-04/data-beyond-what-is-allowed",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel() // what never comes is waited for
			results, err := judgeBinding(t, mistake, id, time.Second)
			require.NoError(t, err)
			for _, r := range results {
				require.Equal(t, Fail, r.Outcome, r.Shape)
				require.NotEmpty(t, r.Why)
				require.NotEmpty(t, r.Trace)
			}
		})
	}
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
