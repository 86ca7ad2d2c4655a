package report

import (
	"fmt"
	"io"

	"github.com/project-iris/iris/conformance"
)

// Badge writes an SVG that tells in a few words how a run went.
func Badge(w io.Writer, r conformance.Report) error {
	passed, failed := r.Count(conformance.Pass), conformance.Failed(r.Results)
	text, colour := fmt.Sprintf("%d passed", passed), "#2e7d32"
	if failed > 0 {
		text, colour = fmt.Sprintf("%d of %d failed", failed, len(r.Results)), "#c62828"
	}
	const left, letter = 118, 7
	width := left + letter*len(text) + 12
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="iris conformance: %s">
<rect width="%d" height="20" rx="3" fill="%s"/><rect width="%d" height="20" rx="3" fill="#444"/>
<g fill="#fff" font-family="Verdana,sans-serif" font-size="11"><text x="6" y="14">iris conformance</text><text x="%d" y="14">%s</text></g>
</svg>
`, width, text, width, colour, left, left+6, text)
	return err
}
