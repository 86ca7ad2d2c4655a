package subject

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/conformance"
)

// TestMain lets this program be the subject.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "subject" {
		Run(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheGoBindingConforms(t *testing.T) {
	r, err := conformance.Suite{Subject: []string{os.Args[0], "subject"}}.Report(t.Context())
	require.NoError(t, err)
	require.Greater(t, r.Count(conformance.Pass), 1000)
	for _, result := range r.Results {
		if result.Outcome == conformance.Fail || result.Outcome == conformance.Broke {
			t.Errorf("%s (%s): %s", result.ID, result.Shape, result.Why)
		}
	}
}
