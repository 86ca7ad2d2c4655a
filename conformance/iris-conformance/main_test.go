package main

import (
	"bytes"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/conformance"
)

func TestListNamesEveryCase(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, exitPassed, run(t.Context(), []string{"list"}, &out, &errs))
	require.Equal(t, len(conformance.Cases()), bytes.Count(out.Bytes(), []byte("\n")))
	require.Contains(t, out.String(), "MUST   RELAY-10.6-01/a-finish-is-passed-on\n")
	require.Empty(t, errs.String())
}

func TestWrongUseIsTold(t *testing.T) {
	for _, args := range [][]string{nil, {"dance"}, {"relay", "-nothing"}, {"list", "more"}, {"relay", "-filter", "no such case"}, {"binding"}, {"explain"}, {"explain", "no such case"}, {"report"}, {"report", "/nowhere.json"}} {
		var out, errs bytes.Buffer
		require.Equal(t, exitUsage, run(t.Context(), args, &out, &errs), args)
		require.NotEmpty(t, errs.String(), args)
	}
}

func TestWithoutAnEndpointNothingIsJudged(t *testing.T) {
	t.Setenv("IRIS_RUNTIME_DIR", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	var out, errs bytes.Buffer
	require.Equal(t, exitNotThere, run(t.Context(), []string{"relay", "-port", port}, &out, &errs))
	require.Contains(t, errs.String(), "attach to the endpoint")
}

func TestASubjectThatDoesNotStartOrSpeaksNonsense(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, exitNotThere, run(t.Context(), []string{"binding", "--", "/no/such/program"}, &out, &errs))
	require.Contains(t, errs.String(), "does not start")
	require.Equal(t, exitControl, run(t.Context(), []string{"binding", "--", "sh", "-c", "echo nonsense; cat >/dev/null"}, &out, &errs))
	require.Contains(t, errs.String(), "breaks the control protocol")
}

func TestExplainShowsTheClauseAndTheScript(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, exitPassed, run(t.Context(), []string{"explain", "BINDING-10.6-04"}, &out, &errs))
	require.Contains(t, out.String(), "Data or a second finish behind one's own finish")
	require.Contains(t, out.String(), "- send: [finish, $t]\n- send: [finish, $t]")
}
