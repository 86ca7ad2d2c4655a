package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/project-iris/iris/conformance"
	"github.com/project-iris/iris/conformance/report"
)

// write tells a report in all the ways that were asked for.
func (o *options) write(r conformance.Report, out io.Writer) error {
	asJSON := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	var err error
	if o.json == "-" {
		err = asJSON(out)
	} else {
		err = errors.Join(report.Text(out, r), toFile(o.json, asJSON))
	}
	return errors.Join(err,
		toFile(o.junit, func(w io.Writer) error { return report.JUnit(w, r) }),
		toFile(o.html, func(w io.Writer) error { return report.HTML(w, r) }),
		toFile(o.badge, func(w io.Writer) error { return report.Badge(w, r) }))
}

// toFile has write write a file; none if it has no name.
func toFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
