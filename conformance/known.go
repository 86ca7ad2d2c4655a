package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Known is a case that is known to fail, and what it then says.
type Known struct {
	Case  string
	Shape Shape  // empty: in any
	Why   string // part of what it says, not empty
}

// ParseKnown reads a list of known failures in YAML, strictly.
func ParseKnown(text []byte) ([]Known, error) {
	var list []Known
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("known failures: %w", err)
	}
	for _, k := range list {
		if k.Case == "" || k.Why == "" {
			return nil, fmt.Errorf("known failures: want case and why, got %+v", k)
		}
	}
	return list, nil
}

// Excuse marks the results that are known to fail. What it returns is stale:
// entries whose case was played, or does not exist, and did not fail as they say.
func (r *Report) Excuse(list []Known) (stale []Known) {
	exists := map[string]bool{}
	for _, c := range Cases() {
		exists[c.ID] = true
	}
	for _, k := range list {
		played, matched := !exists[k.Case], false
		for i := range r.Results {
			result := &r.Results[i]
			if result.ID != k.Case || k.Shape != "" && k.Shape != result.Shape {
				continue
			}
			played = true
			if (result.Outcome == Fail || result.Outcome == Broke) && strings.Contains(result.Why, k.Why) {
				result.Known, matched = true, true
			}
		}
		if played && !matched {
			stale = append(stale, k)
		}
	}
	return stale
}
