package report

import (
	_ "embed"
	"html/template"
	"io"
	"strings"

	"github.com/project-iris/iris/conformance"
)

//go:embed run.html
var runPage string

//go:embed matrix.html
var matrixPage string

//go:embed style.css
var style string

var pages = map[string]*template.Template{"run": parsed("run", runPage), "matrix": parsed("matrix", matrixPage)}

func parsed(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"clause": func(number string) string { text, _ := conformance.Clause(number); return text },
		"script": script,
		"style":  func() template.CSS { return template.CSS(style) },
		"sum":    Sum,
		"class":  func(o conformance.Outcome) string { return strings.ReplaceAll(string(o), " ", "-") },
		"line":   conformance.Line.String,
	}).Parse(text))
}

func script(id string) string {
	for _, c := range conformance.Cases() {
		if c.ID == id {
			return c.Script
		}
	}
	return ""
}

// HTML writes one page that needs nothing else: all cases, and of those that did
// not pass the clause, the script and the trace.
func HTML(w io.Writer, r conformance.Report) error { return pages["run"].Execute(w, r) }
