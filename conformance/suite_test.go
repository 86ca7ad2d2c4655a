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

func TestAMistakeOfAnEndpointFailsItsCase(t *testing.T) {
	for mistake, id := range map[string]string{
		"any code is passed on":                  "RELAY-5.4-07/a-code-that-is-not-the-services",
		"drained does not wait":                  "RELAY-6.3-07/drained-waits-for-the-tunnels",
		"a lost tunnel is not told":              "RELAY-6.6-02/the-service-goes-away",
		"credit is not looked at":                "RELAY-9.2-06/as-many-events-as-there-is-credit",
		"one member is enough":                   "RELAY-8.1-03/every-member-gets-a-broadcast",
		"the sender's id is passed on":           "RELAY-8.1-01/a-member-gets-a-broadcast",
		"id 0 is answered":                       "RELAY-8.3-01/a-broadcast-without-an-outcome",
		"a second subscribe ends the connection": "RELAY-9.3-04/a-second-subscribe",
		"an unsubscribe is forgotten":            "RELAY-9.4-01/an-unsubscribe",
		"own events are left out":                "RELAY-9.5-01/an-event-of-ones-own",
		"two events change places":               "RELAY-9.5-02/events-come-in-order",
		"events come twice":                      "RELAY-9.2-03/an-event-comes-once-to-every-subscriber",
		"the node's ids are like the client's":   "RELAY-10.1-01/the-ids-of-the-node-have-the-highest-bit",
		"an open never times out":                "RELAY-10.3-03/a-tunnel-that-nobody-accepts-in-time",
		"data costs its payload alone":           "RELAY-10.5-04/data-beyond-what-is-left",
		"chunks are joined":                      "RELAY-10.4-02/a-message-of-several-chunks",
		"one finish ends both directions":        "RELAY-10.6-03/the-other-direction-goes-on",
		"the reason is left out":                 "RELAY-10.7-02/an-abort-of-the-service-with-a-reason",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel() // what never comes is waited for
			failed := 0
			for _, r := range judge(t, mistake, id, time.Second) {
				if r.ID == id && r.Outcome != Pass {
					require.NotEmpty(t, r.Why)
					failed++
				}
			}
			require.Equal(t, 3, failed, "in every shape")
		})
	}
}

func TestAFilterThatMatchesNothingIsAnError(t *testing.T) {
	_, err := Suite{Filter: "no such case"}.Run(t.Context())
	require.ErrorIs(t, err, ErrNoCase)
}
