package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A LoadError says which file, and which case of it, is not as docs/cases.md wants.
type LoadError struct {
	File string
	Case string // its id; empty: the file as a whole
	Line int    // 0: not known
	Err  error
}

// Error names the place and what is wrong there.
func (e *LoadError) Error() string {
	place := e.File
	if e.Line > 0 {
		place += fmt.Sprintf(":%d", e.Line)
	}
	if e.Case != "" {
		place += " (" + e.Case + ")"
	}
	return place + ": " + e.Err.Error()
}

// Unwrap gives what is wrong.
func (e *LoadError) Unwrap() error { return e.Err }

// A lineError is an error of a step.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// A file is a file of cases as it is written.
type file struct {
	Theme   string
	Needs   []string // of each of its cases
	Scripts map[string]yaml.Node
	Cases   []entry
}

// An entry is a case as it is written.
type entry struct {
	Case     string
	Level    Level
	Why      string
	Needs    []string
	Endpoint string
	Whole    bool
	Alone    bool
	Slow     bool
	Steps    yaml.Node
}

// load reads all files of cases in the folders cases/relay and cases/binding.
func load(fsys fs.FS) ([]Case, error) {
	var cases []Case
	seen := map[string]string{}
	for _, mode := range []Mode{Relay, Binding} {
		names, err := fs.Glob(fsys, "cases/"+string(mode)+"/*.yaml")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, err
			}
			more, err := loadFile(name, mode, text)
			if err != nil {
				return nil, err
			}
			for _, c := range more {
				number, _, _ := strings.Cut(c.ID, "/")
				if other, twice := seen[number]; twice {
					return nil, &LoadError{name, c.ID, 0, fmt.Errorf("the number is that of %s", other)}
				}
				seen[number] = c.ID
			}
			cases = append(cases, more...)
		}
	}
	return cases, nil
}

func loadFile(name string, mode Mode, text []byte) ([]Case, error) {
	var f file
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return nil, &LoadError{File: name, Err: err}
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &LoadError{File: name, Err: errors.New("a second document")}
	}
	if f.Theme == "" || len(f.Cases) == 0 {
		return nil, &LoadError{File: name, Err: errors.New("want a theme and cases")}
	}
	var cases []Case
	for _, e := range f.Cases {
		c, err := e.load(mode, f)
		if err != nil {
			at := &LoadError{File: name, Case: e.Case, Line: e.Steps.Line, Err: err}
			var line *lineError
			if errors.As(err, &line) {
				at.Line, at.Err = line.line, line.err
			}
			return nil, at
		}
		c.file = name
		cases = append(cases, c)
	}
	return cases, nil
}

var (
	caseID   = regexp.MustCompile(`^(RELAY|BINDING)-(\d+\.\d+)-\d{2,3}/[a-z0-9]+(-[a-z0-9]+)*$`)
	features = []string{"request", "service", "broadcast", "topic", "tunnel", "headers", "message-headers", "tunnel-headers", "reconnect", "drain", "limits", "cancel"}
)

func (e entry) load(mode Mode, f file) (Case, error) {
	id := caseID.FindStringSubmatch(e.Case)
	switch {
	case id == nil:
		return Case{}, fmt.Errorf("an id is RELAY-<clause>-<number>/<name> or BINDING-…, not %q", e.Case)
	case id[1] != strings.ToUpper(string(mode)):
		return Case{}, fmt.Errorf("a case of mode %s has an id of %s", mode, id[1])
	case e.Level != Must && e.Level != Should && e.Level != May:
		return Case{}, fmt.Errorf("a level is MUST, SHOULD or MAY, not %q", e.Level)
	case e.Endpoint != "" && e.Endpoint != "tcp" && e.Endpoint != "unix" && e.Endpoint != "unsafe":
		return Case{}, fmt.Errorf("an endpoint is tcp, unix or unsafe, not %q", e.Endpoint)
	}
	needs := append(append([]string{}, f.Needs...), e.Needs...)
	for _, need := range needs {
		if !slices.Contains(features, need) {
			return Case{}, fmt.Errorf("unknown feature %q", need)
		}
	}
	steps, err := parseSteps(&e.Steps, mode, f.Scripts, 0)
	if err != nil {
		return Case{}, err
	}
	if len(steps) == 0 {
		return Case{}, errors.New("no steps")
	}
	script, err := yaml.Marshal(spelled(&e.Steps, f.Scripts))
	if err != nil {
		return Case{}, err
	}
	return Case{ID: e.Case, Clause: id[2], Mode: mode, Level: e.Level, Needs: needs, Why: e.Why, Script: string(script),
		endpoint: e.Endpoint, whole: e.Whole || e.Slow, alone: e.Alone || e.Endpoint == "unsafe", slow: e.Slow, steps: steps}, nil
}

// spelled is a list of steps in which scripts are in place of their use. That
// they exist and end has been checked.
func spelled(list *yaml.Node, scripts map[string]yaml.Node) *yaml.Node {
	whole := *list
	whole.Content = nil
	for _, n := range list.Content {
		if n.Kind == yaml.MappingNode && n.Content[0].Value == "use" {
			script := scripts[n.Content[1].Value]
			whole.Content = append(whole.Content, spelled(&script, scripts).Content...)
			continue
		}
		whole.Content = append(whole.Content, n)
	}
	return &whole
}

// decodeStrict decodes n; a key that v does not have is an error.
func decodeStrict(n *yaml.Node, v any) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(v)
}
