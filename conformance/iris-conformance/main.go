// Command iris-conformance judges whether an endpoint speaks the relay protocol.
//
//	iris-conformance relay [-port 55555] [-filter TEXT] [-json]   # plays all cases against the node at the port
//	iris-conformance list                                         # prints the cases
//
// Exit codes: 0 all passed, 1 a case failed, 2 usage or a filter that matched
// nothing, 3 there is no endpoint.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"github.com/project-iris/iris/conformance"
	"github.com/project-iris/iris/spec/endpoint"
)

const (
	exitPassed = iota
	exitFailed
	exitUsage
	exitNoEndpoint
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("iris-conformance", flag.ContinueOnError)
	flags.SetOutput(errs)
	port := flags.Int("port", 55555, "port of the endpoint")
	filter := flags.String("filter", "", "play only cases whose id contains this")
	asJSON := flags.Bool("json", false, "print JSON")
	if len(args) == 0 {
		fmt.Fprintln(errs, "usage: iris-conformance relay|list [options]")
		return exitUsage
	}
	if flags.Parse(args[1:]) != nil { // it has told why
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(errs, "iris-conformance: unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}
	switch args[0] {
	case "list":
		for _, c := range conformance.Cases() {
			fmt.Fprintf(out, "%-6s %s\n", c.Level, c.ID())
		}
		return exitPassed
	case "relay":
		return judge(ctx, *port, *filter, *asJSON, out, errs)
	}
	fmt.Fprintf(errs, "iris-conformance: unknown mode %q\n", args[0])
	return exitUsage
}

func judge(ctx context.Context, port int, filter string, asJSON bool, out, errs io.Writer) int {
	suite := conformance.Suite{
		Dial:   func(ctx context.Context) (net.Conn, error) { return endpoint.Dial(ctx, port) },
		Filter: filter,
	}
	results, err := suite.Run(ctx)
	if err != nil {
		fmt.Fprintln(errs, "iris-conformance:", err)
	}
	switch {
	case errors.Is(err, conformance.ErrNoCase):
		return exitUsage
	case results == nil:
		return exitNoEndpoint
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(results); err != nil {
			fmt.Fprintln(errs, "iris-conformance:", err)
			return exitFailed
		}
	} else {
		for _, r := range results {
			if !r.Pass {
				fmt.Fprintf(out, "FAIL %s (%s, %s)\n     %s\n", r.ID, r.Shape, r.Level, r.Why)
			}
		}
		fmt.Fprintf(out, "%d passed, %d failed\n", len(results)-conformance.Failed(results), conformance.Failed(results))
	}
	if err != nil || conformance.Failed(results) > 0 {
		return exitFailed
	}
	return exitPassed
}
