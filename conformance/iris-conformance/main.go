// Command iris-conformance judges whether a binding, or a relay endpoint, speaks the relay protocol.
//
//	iris-conformance binding [options] -- SUBJECT [args]   # plays the node against a subject: docs/subject.md
//	iris-conformance relay [-port 55555] [options]         # plays a client against the endpoint at the port
//	iris-conformance list [-mode relay|binding]            # prints the cases
//	iris-conformance explain CASE                          # prints the clause, the script, and why
//	iris-conformance report [-html FILE] REPORT.json …     # merges reports into one matrix
//
// Exit codes: 0 all right, 1 a case failed or an entry of the list of known
// failures is stale, 2 usage or a filter that matched nothing, 3 the subject does
// not start or there is no endpoint, 4 the subject breaks the control protocol.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/project-iris/iris/conformance"
	"github.com/project-iris/iris/conformance/report"
	"github.com/project-iris/iris/spec/endpoint"
)

const (
	exitPassed = iota
	exitFailed
	exitUsage
	exitNotThere
	exitControl
)

const usage = `usage: iris-conformance binding [options] -- SUBJECT [args]
       iris-conformance relay [-port 55555] [options]
       iris-conformance list [-mode relay|binding]
       iris-conformance explain CASE
       iris-conformance report [-html FILE] REPORT.json …`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(errs, usage)
		return exitUsage
	}
	modes := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"binding": binding, "relay": relay, "list": list, "explain": explain, "report": merge,
	}
	mode, known := modes[args[0]]
	if !known {
		fmt.Fprintf(errs, "iris-conformance: unknown mode %q\n%s\n", args[0], usage)
		return exitUsage
	}
	err := mode(ctx, args[1:], out, errs)
	var used usageError
	switch {
	case err == nil:
		return exitPassed
	case errors.Is(err, errFailed): // it has been told
		return exitFailed
	case errors.Is(err, flag.ErrHelp), errors.As(err, &used) && used == "":
		return exitUsage
	}
	fmt.Fprintln(errs, "iris-conformance:", err)
	switch {
	case errors.As(err, &used), errors.Is(err, conformance.ErrNoCase):
		return exitUsage
	case errors.Is(err, conformance.ErrSubject), errors.Is(err, conformance.ErrNoEndpoint):
		return exitNotThere
	case errors.Is(err, conformance.ErrControl):
		return exitControl
	}
	return exitFailed
}

// A usageError is a mistake of who called; empty: it has been told.
type usageError string

func (e usageError) Error() string { return string(e) }

var errFailed = errors.New("failed")

// newFlags are flags that tell their mistakes to errs.
func newFlags(name string, errs io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("iris-conformance "+name, flag.ContinueOnError)
	flags.SetOutput(errs)
	return flags
}

// options are those of the modes that play.
type options struct {
	filter, known            string
	json, junit, html, badge string
	patience                 time.Duration
	atOnce                   int
	slow                     bool
}

func (o *options) add(flags *flag.FlagSet) {
	flags.StringVar(&o.filter, "filter", "", "play only cases whose id contains this")
	flags.StringVar(&o.known, "known-failing", "", "file of cases that are known to fail")
	flags.StringVar(&o.json, "json", "", "write the report as JSON to this file; -: to the standard output, in place of the text")
	flags.StringVar(&o.junit, "junit", "", "write JUnit's XML to this file")
	flags.StringVar(&o.html, "html", "", "write one HTML page to this file")
	flags.StringVar(&o.badge, "badge", "", "write a badge (SVG) to this file")
	flags.DurationVar(&o.patience, "patience", 5*time.Second, "how long to wait for what should come at once")
	flags.IntVar(&o.atOnce, "c", 16, "cases at the same time")
	flags.BoolVar(&o.slow, "slow", false, "play the cases too that wait for a ping timeout (a minute more)")
}

func (o *options) suite() conformance.Suite {
	return conformance.Suite{Filter: o.filter, Patience: o.patience, AtOnce: o.atOnce, Slow: o.slow}
}

func binding(ctx context.Context, args []string, out, errs io.Writer) error {
	var o options
	flags := newFlags("binding", errs)
	o.add(flags)
	if flags.Parse(args) != nil {
		return usageError("")
	}
	if flags.NArg() == 0 {
		return usageError("binding: want -- SUBJECT [args]")
	}
	suite := o.suite()
	suite.Subject = flags.Args()
	return o.judge(ctx, suite, out, errs)
}

func relay(ctx context.Context, args []string, out, errs io.Writer) error {
	var o options
	flags := newFlags("relay", errs)
	o.add(flags)
	port := flags.Int("port", 55555, "port of the endpoint")
	if flags.Parse(args) != nil {
		return usageError("")
	}
	if flags.NArg() > 0 {
		return usageError(fmt.Sprintf("relay: unexpected argument %q", flags.Arg(0)))
	}
	suite := o.suite()
	suite.Port = *port
	suite.Dial = func(ctx context.Context) (net.Conn, error) { return endpoint.Dial(ctx, *port) }
	return o.judge(ctx, suite, out, errs)
}

// judge plays, tells, and says whether all is right.
func (o *options) judge(ctx context.Context, suite conformance.Suite, out, errs io.Writer) error {
	var known []conformance.Known
	if o.known != "" {
		text, err := os.ReadFile(o.known)
		if err == nil {
			known, err = conformance.ParseKnown(text)
		}
		if err != nil {
			return usageError(err.Error())
		}
	}
	r, err := suite.Report(ctx)
	if len(r.Results) == 0 {
		return err
	}
	stale := r.Excuse(known)
	if writing := o.write(r, out); writing != nil {
		return errors.Join(err, writing)
	}
	for _, k := range stale {
		fmt.Fprintf(errs, "iris-conformance: stale: %s does not fail with %q: remove it from %s\n", k.Case, k.Why, o.known)
	}
	switch {
	case err != nil:
		return err
	case len(stale) > 0 || conformance.Failed(r.Results) > 0:
		return errFailed
	}
	return nil
}

func list(_ context.Context, args []string, out, errs io.Writer) error {
	flags := newFlags("list", errs)
	mode := flags.String("mode", "", "relay or binding; empty: both")
	if flags.Parse(args) != nil {
		return usageError("")
	}
	if flags.NArg() > 0 {
		return usageError(fmt.Sprintf("list: unexpected argument %q", flags.Arg(0)))
	}
	for _, c := range conformance.Cases() {
		if *mode == "" || string(c.Mode) == *mode {
			fmt.Fprintf(out, "%-6s %s\n", c.Level, c.ID)
		}
	}
	return nil
}

func explain(_ context.Context, args []string, out, _ io.Writer) error {
	if len(args) != 1 {
		return usageError("explain: want the id of a case, or its begin")
	}
	found := false
	for _, c := range conformance.Cases() {
		if !strings.HasPrefix(c.ID, args[0]) {
			continue
		}
		found = true
		clause, _ := conformance.Clause(c.Clause)
		fmt.Fprintf(out, "%s  (%s, mode %s)\n\n%s\n\n", c.ID, c.Level, c.Mode, clause)
		if c.Why != "" {
			fmt.Fprintf(out, "Why: %s\n\n", c.Why)
		}
		if len(c.Needs) > 0 {
			fmt.Fprintf(out, "Needs: %s\n\n", strings.Join(c.Needs, ", "))
		}
		fmt.Fprintf(out, "Steps:\n%s\n", c.Script)
	}
	if !found {
		return fmt.Errorf("explain %q: %w", args[0], conformance.ErrNoCase)
	}
	return nil
}

func merge(_ context.Context, args []string, out, errs io.Writer) error {
	flags := newFlags("report", errs)
	html := flags.String("html", "", "write the matrix as one HTML page to this file")
	if flags.Parse(args) != nil {
		return usageError("")
	}
	if flags.NArg() == 0 {
		return usageError("report: want files that -json has written")
	}
	var reports []conformance.Report
	for _, path := range flags.Args() {
		r, err := report.Read(path)
		if err != nil {
			return usageError(err.Error())
		}
		reports = append(reports, r)
	}
	m := report.Merge(reports)
	if *html != "" {
		if err := toFile(*html, m.HTML); err != nil {
			return err
		}
	}
	return m.Text(out)
}
