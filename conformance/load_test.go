package conformance

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// A file that is not as it should be is told by its name, its case and its line.
func TestBrokenFilesAreTold(t *testing.T) {
	with := func(steps string) string {
		return "theme: x\nscripts:\n  loop:\n  - use: loop\ncases:\n- case: RELAY-3.1-01/x\n  level: MUST\n  steps:\n" + steps
	}
	for text, want := range map[string]string{
		"":                                  "EOF",
		"theme: [":                          "did not find",
		"theme: x":                          "want a theme and cases",
		"theme: x\ncolour: blue\ncases: []": "field colour not found",
		"theme: x\ncases:\n- case: RELAY-3.1-01/x\n  colour: blue":                  "field colour not found",
		"theme: x\ncases:\n- case: RELAY-3/x\n  level: MUST":                        "an id is",
		"theme: x\ncases:\n- case: BINDING-3.1-01/x\n  level: MUST":                 "has an id of BINDING",
		"theme: x\ncases:\n- case: RELAY-3.1-01/x\n  level: must":                   "a level is",
		"theme: x\ncases:\n- case: RELAY-3.1-01/x\n  level: MUST\n  needs: [dance]": "unknown feature",
		"theme: x\ncases:\n- case: RELAY-3.1-01/x\n  level: MUST\n  endpoint: moon": "an endpoint is",
		"theme: x\ncases:\n- case: RELAY-3.1-01/x\n  level: MUST\n  steps: []":      "no steps",
		with("  - attach:\n---\ntheme: y"):                                          "second document",
		with("  - dance:"):                                                          "unknown verb",
		with("  - just a text"):                                                     "a step is a map",
		with("  - {attach: , colour: blue}"):                                        "unknown key",
		with("  - {attach: , attach: }"):                                            `unknown key "attach"`,
		with("  - accept:"):                                                         "of mode binding",
		with("  - use: nothing"):                                                    "unknown script",
		with("  - use: loop"):                                                       "nested",
		with("  - {repeat: 0, steps: [attach: ]}"):                                  "want a number",
		with("  - {repeat: 20000, steps: [attach: , dial: ]}"):                      "more than",
		with("  - send: ping"):                                                      "a frame is",
		with("  - send: [dance]"):                                                   "unknown op",
		with("  - send: [ping, x]"):                                                 "want an integer",
		with("  - send: [ping, between 9 1]"):                                       "between LOW HIGH",
		with("  - send: [credit, dances, 1]"):                                       "want an integer",
		with("  - send: [bye, dances, x]"):                                          "want an integer",
		with("  - send: [request, 1, x, 1, x, x]"):                                  "want a map",
		with("  - send: [request, 1, x, 1, {}, {bytes: 3}]"):                        "want {bytes",
		with("  - send: [request, 1, x, 1, {}, {byte: 3}]"):                         "field byte not found",
		with("  - {send: [ping, 1], mutate: bend 1}"):                               "a mutation is",
		with("  - send_raw: xyz"):                                                   "invalid byte",
		with("  - send_raw: \"\""):                                                  "no bytes",
		with("  - close: door"):                                                     "want fin",
		with("  - delay: long"):                                                     "want a time",
		with("  - delay: 2h"):                                                       "at most a minute",
		with("  - assert_closed: dances"):                                           "unknown code",
		with("  - assert_open: yes"):                                                "takes no value",
		with("  - any_order: [[ping, 1]]"):                                          "at least two",
	} {
		_, err := load(fstest.MapFS{"cases/relay/broken.yaml": {Data: []byte(text)}})
		var told *LoadError
		require.ErrorAs(t, err, &told, text)
		require.Equal(t, "cases/relay/broken.yaml", told.File)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "cases/relay/broken.yaml")
	}
	_, err := load(fstest.MapFS{"cases/relay/broken.yaml": {Data: []byte(with("  - attach:\n  - dance:"))}})
	require.EqualError(t, err, `cases/relay/broken.yaml:10 (RELAY-3.1-01/x): unknown verb "dance"`)
	one := &fstest.MapFile{Data: []byte(with("  - attach:"))}
	_, err = load(fstest.MapFS{"cases/relay/a.yaml": one, "cases/relay/b.yaml": one})
	require.ErrorContains(t, err, "the number is that of")
}

func TestBrokenStepsOfBindingsAreTold(t *testing.T) {
	for steps, want := range map[string]string{
		"  - attach:":                           "of mode relay",
		"  - command: {op: }":                   "with op",
		"  - command: {op: connect, colour: x}": "colour: unknown field",
		"  - command: x":                        "want a map",
		"  - accept: {colour: blue}":            "field colour not found",
		"  - answer: {}":                        "want the name",
		"  - {answer: x, ok: {}, error: lost}":  "ok or error",
		"  - {answer: x, ok: {colour: blue}}":   "colour: unknown field",
		"  - notice: dance":                     "unknown notice",
		"  - assert_quiet: dance":               "unknown notice",
		"  - await_credit: dances":              "unknown kind",
		"  - await_allowance: 7":                "want [tunnel, bytes]",
	} {
		text := "theme: x\ncases:\n- case: BINDING-3.1-01/x\n  level: MUST\n  steps:\n" + steps
		_, err := load(fstest.MapFS{"cases/binding/broken.yaml": {Data: []byte(text)}})
		var told *LoadError
		require.ErrorAs(t, err, &told, steps)
		require.Equal(t, 6, told.Line)
		require.ErrorContains(t, err, want, steps)
	}
}
