package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/conformance"
)

// run is a report with one result of each outcome.
func run() conformance.Report {
	r := conformance.Report{Schema: conformance.Schema, Mode: conformance.Binding, Took: time.Second,
		Subject: conformance.Info{Name: "<lib>", Version: "1", Language: "c"}}
	for i, o := range []conformance.Outcome{conformance.Pass, conformance.NonStrict, conformance.Fail, conformance.Unsupported, conformance.Broke, conformance.Fail} {
		result := conformance.Result{ID: []string{"BINDING-2.1-01/the-hello-of-a-client", "b", "c", "d", "e", "f"}[i], Clause: "2.1", Level: conformance.Must, Shape: conformance.Whole, Outcome: o}
		if o != conformance.Pass {
			result.Why = "<script>why\x00"
			result.Trace = []conformance.Line{{At: time.Millisecond, Conn: "client", Way: "→", Hex: "c4 03", Size: 5, Text: "[ping, 7]"}}
		}
		result.Known = i == 5
		r.Results = append(r.Results, result)
	}
	return r
}

func TestTextTellsWhatDidNotPassWithItsTrace(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Text(&b, run()))
	require.Contains(t, b.String(), "FAIL c (whole, MUST)\n     <script>why")
	require.Contains(t, b.String(), "client   → [ping, 7]\n                          c4 03")
	require.Contains(t, b.String(), "KNOWN f")
	require.NotContains(t, b.String(), "the-hello-of-a-client")
	require.Contains(t, b.String(), "1 passed, 1 non-strict, 2 fail, 1 error, 1 unsupported (1 known); 1.0 s")
}

func TestJUnitIsXMLThatCounts(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, JUnit(&b, run()))
	var read junitSuites
	require.NoError(t, xml.Unmarshal(b.Bytes(), &read))
	require.Equal(t, 6, read.Suite.Tests)
	require.Equal(t, 1, read.Suite.Failures)
	require.Equal(t, 1, read.Suite.Errors)
	require.Equal(t, 3, read.Suite.Skipped)
}

func TestPagesNeedNothingElseAndEscape(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, HTML(&b, run()))
	require.Contains(t, b.String(), "&lt;script&gt;why")
	require.Contains(t, b.String(), "[ping, 7]")
	require.Contains(t, b.String(), "A client MUST send `hello` at once")
	require.NotContains(t, b.String(), "<script")
	require.NotContains(t, b.String(), "http://")
	b.Reset()
	require.NoError(t, Badge(&b, run()))
	require.Contains(t, b.String(), "2 of 6 failed")
	require.NoError(t, xml.Unmarshal(b.Bytes(), new(struct{})))
}

func TestReportsMergeIntoOneMatrix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	text, err := json.Marshal(run())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	one, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, run(), one)
	other := conformance.Report{Mode: conformance.Relay, Results: []conformance.Result{
		{ID: "c", Outcome: conformance.Pass}, {ID: "c", Outcome: conformance.Fail}, {ID: "c", Outcome: conformance.NonStrict}, {ID: "g", Outcome: conformance.Pass}}}
	m := Merge([]conformance.Report{one, other})
	require.Equal(t, []string{"<lib> 1 (c)", "relay"}, m.Columns)
	require.Len(t, m.Rows, 7)
	require.Equal(t, Row{"c", "2.1", []conformance.Outcome{conformance.Fail, conformance.Fail}}, m.Rows[2])
	require.Equal(t, []conformance.Outcome{"", conformance.Pass}, m.Rows[6].Cells)
	var b bytes.Buffer
	require.NoError(t, m.Text(&b))
	require.Equal(t, 9, strings.Count(b.String(), "\n"))
	require.NoError(t, m.HTML(&b))
}

func TestAReportOfAnotherSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	for text, want := range map[string]string{`{"schema": 99}`: "schema 99", "{": "unexpected end"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Read(path)
		require.ErrorContains(t, err, want)
	}
}
