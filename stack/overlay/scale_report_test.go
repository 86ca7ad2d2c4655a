package overlay

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestScaleReport measures networks of the sizes of -sizes and writes down what it
// found in the folder of -report: scale/figures.csv, in which other sizes stay as
// they are, plots of it, and the table in scale.md. Without a folder it tells whether
// the plots and the table of the documentation show the figures that lie beside them.
func TestScaleReport(t *testing.T) {
	if *reportFlag == "" {
		sameReport(t, os.DirFS("../../docs"))
		return
	}
	for _, size := range strings.Split(*sizesFlag, ",") {
		nodes, err := strconv.Atoi(size)
		require.NoError(t, err)
		if nodes > 0 { // 0: only plot what was measured before
			x := measure(t, nodes)
			t.Logf("%+v", x)
			writeFigures(t, x)
		}
		writePlots(t)
	}
}

func sameReport(t *testing.T, docs fs.FS) {
	*reportFlag = t.TempDir()
	defer func() { *reportFlag = "" }()
	require.NoError(t, os.CopyFS(*reportFlag, docs))
	writePlots(t)
	drawn := os.DirFS(*reportFlag)
	files, err := fs.Glob(docs, "scale/*.svg")
	require.NoError(t, err)
	require.Len(t, files, len(plots))
	for _, file := range append(files, "scale.md") {
		want, err := fs.ReadFile(docs, file)
		require.NoError(t, err)
		got, err := fs.ReadFile(drawn, file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s does not show what is in scale/figures.csv: draw it again with -args -report ../../docs -sizes 0", file)
	}
}

func figuresFile() string { return filepath.Join(*reportFlag, "scale", "figures.csv") }

// readFigures reads what was measured, the names of the columns first.
func readFigures(t *testing.T) [][]string {
	text, err := os.ReadFile(figuresFile())
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	require.NoError(t, err)
	return rows
}

func writeFigures(t *testing.T, x figures) {
	var names, row []string
	for field, value := range reflect.ValueOf(x).Fields() {
		names = append(names, field.Name)
		row = append(row, fmt.Sprint(value.Interface()))
	}
	rows := [][]string{names, row}
	for i, old := range readFigures(t) {
		if i > 0 && old[0] != row[0] {
			rows = append(rows, old)
		}
	}
	slices.SortFunc(rows[1:], func(a, b []string) int { return int(number(a[0]) - number(b[0])) })
	var b bytes.Buffer
	require.NoError(t, csv.NewWriter(&b).WriteAll(rows))
	require.NoError(t, os.MkdirAll(filepath.Dir(figuresFile()), 0o755))
	require.NoError(t, os.WriteFile(figuresFile(), b.Bytes(), 0o644))
}

func number(text string) float64 {
	x, _ := strconv.ParseFloat(text, 64)
	return x
}

// A plot shows columns of the figures against the size of the network.
type plot struct {
	file, title string
	columns     map[string]string // and what they are called
}

var plots = []plot{
	{"links", "links of a node", map[string]string{"Links": "median", "LinksMost": "99 of 100"}},
	{"table", "contacts that a node knows, at most", map[string]string{"Table": "contacts"}},
	{"bytes", "bytes a second that a node sends, median", map[string]string{"Idle": "idle", "Churn": "1 % churn a minute"}},
	{"hops", "how deep a lookup goes", map[string]string{"Depth": "median", "DepthMost": "the most"}},
	{"convergence", "ms until a new node has its views", map[string]string{"Joined": "the slowest of five"}},
	{"detection", "ms until views are without a dead node", map[string]string{"Dead": "median", "DeadMost": "99 of 100"}},
	{"memory", "KB a node, with the simulator's share", map[string]string{"Memory": "KB"}},
}

func writePlots(t *testing.T) {
	rows := readFigures(t)
	require.NotEmpty(t, rows, figuresFile())
	for _, p := range plots {
		svg := p.draw(rows)
		require.NoError(t, os.WriteFile(filepath.Join(*reportFlag, "scale", p.file+".svg"), []byte(svg), 0o644))
	}
	writeTable(t, rows)
}

const (
	plotWidth, plotHeight = 480, 280
	plotLeft, plotTop     = 60, 40
	plotRight, plotBottom = 20, 40
)

// draw draws sizes on a logarithmic axis and values on one from 0.
func (p plot) draw(rows [][]string) string {
	most := 1.0
	for _, row := range rows[1:] {
		for i, name := range rows[0] {
			if p.columns[name] != "" {
				most = max(most, number(row[i]))
			}
		}
	}
	low, high := math.Log10(number(rows[1][0])), math.Log10(number(rows[len(rows)-1][0]))
	x := func(nodes float64) float64 {
		return plotLeft + (plotWidth-plotLeft-plotRight)*(math.Log10(nodes)-low)/max(high-low, 0.01)
	}
	y := func(value float64) float64 {
		return plotHeight - plotBottom - (plotHeight-plotTop-plotBottom)*value/most
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="16" font-size="13">%s</text>`+"\n", plotLeft, p.title)
	for i := range 5 {
		value := most * float64(i) / 4
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n",
			plotLeft, y(value), plotWidth-plotRight, plotLeft-5, y(value)+4, value)
	}
	for _, row := range rows[1:] {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(number(row[0])), plotHeight-plotBottom+16, row[0])
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">nodes</text>`+"\n", plotWidth-plotRight, plotHeight-6)
	nth := 0
	for i, name := range rows[0] {
		label := p.columns[name]
		if label == "" {
			continue
		}
		colour := []string{"#1f6fb4", "#d1622b"}[nth%2]
		path := "M"
		for _, row := range rows[1:] {
			path += fmt.Sprintf("%.1f %.1fL", x(number(row[0])), y(number(row[i])))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(number(row[0])), y(number(row[i])), colour)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSuffix(path, "L"), colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotLeft+nth*150, 31, colour, label)
		nth++
	}
	return b.String() + "</svg>\n"
}

// writeTable puts the figures between two marks in scale.md.
func writeTable(t *testing.T, rows [][]string) {
	const begin, end = "<!-- figures -->\n", "<!-- end of figures -->\n"
	file := filepath.Join(*reportFlag, "scale.md")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "%s has no %s", file, begin)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "%s has no %s", file, end)
	var b strings.Builder
	for column, name := range rows[0] {
		fmt.Fprintf(&b, "| %s |", tableNames[name])
		for _, row := range rows[1:] {
			fmt.Fprintf(&b, " %s |", row[column])
		}
		b.WriteString("\n")
		if column == 0 {
			b.WriteString("|---|" + strings.Repeat("---|", len(rows)-1) + "\n")
		}
	}
	require.NoError(t, os.WriteFile(file, []byte(before+begin+b.String()+end+after), 0o644))
}

var tableNames = map[string]string{
	"Nodes": "nodes", "Links": "links, median", "LinksMost": "links, 99 of 100", "Table": "contacts, at most",
	"Idle": "bytes/s idle, median", "IdleMost": "bytes/s idle, 99 of 100", "Churn": "bytes/s under churn, median",
	"Depth": "depth of a lookup, median", "DepthMost": "depth, at most", "Joined": "new node has its views, ms, slowest of 5",
	"Change": "member comes or goes, ms, 99 of 100", "Dead": "views without a dead node, ms, median",
	"DeadMost": "the same, 99 of 100", "Missed": "not seen within 5 s", "Alarms": "false alarms, stalls of 400 ms",
	"Requests": "requests under churn", "Direct": "reached the first member, %", "Lost": "went to one that had just died", "Failed": "reached none",
	"Memory": "KB a node", "NotSettled": "views wrong at rest",
}
