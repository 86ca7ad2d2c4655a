package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/project-iris/iris/conformance"
)

// A Matrix has a row for each case and a column for each report; a cell is the
// worst outcome over the shapes, empty if the case was not played.
type Matrix struct {
	Columns []string
	Rows    []Row
}

// A Row is one case.
type Row struct {
	ID     string
	Clause string
	Cells  []conformance.Outcome
}

// Read reads a report that a run has written as JSON.
func Read(path string) (conformance.Report, error) {
	var r conformance.Report
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != conformance.Schema {
		return r, fmt.Errorf("%s: schema %d, this program reads %d", path, r.Schema, conformance.Schema)
	}
	return r, nil
}

// worst orders outcomes.
var worst = []conformance.Outcome{"", conformance.Unsupported, conformance.Pass, conformance.NonStrict, conformance.Fail, conformance.Broke}

// Merge makes one matrix of several reports, in their order.
func Merge(reports []conformance.Report) Matrix {
	var m Matrix
	rows := map[string]int{}
	for column, r := range reports {
		name := string(r.Mode)
		if r.Subject.Name != "" {
			name = fmt.Sprintf("%s %s (%s)", r.Subject.Name, r.Subject.Version, r.Subject.Language)
		}
		m.Columns = append(m.Columns, name)
		for _, result := range r.Results {
			i, known := rows[result.ID]
			if !known {
				i = len(m.Rows)
				rows[result.ID] = i
				m.Rows = append(m.Rows, Row{result.ID, result.Clause, make([]conformance.Outcome, len(reports))})
			}
			cell := &m.Rows[i].Cells[column]
			if slices.Index(worst, result.Outcome) > slices.Index(worst, *cell) {
				*cell = result.Outcome
			}
		}
	}
	return m
}

// Text writes the matrix for people.
func (m Matrix) Text(w io.Writer) error {
	for i, name := range m.Columns {
		if _, err := fmt.Fprintf(w, "%d: %s\n", i+1, name); err != nil {
			return err
		}
	}
	for _, row := range m.Rows {
		line := fmt.Sprintf("%-70s", row.ID)
		for _, cell := range row.Cells {
			line += fmt.Sprintf(" %-11s", cell)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// HTML writes the matrix as one page that needs nothing else.
func (m Matrix) HTML(w io.Writer) error { return pages["matrix"].Execute(w, m) }
