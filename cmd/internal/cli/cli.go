// Package cli is the command line of iris: what each command reads, prints and
// exits with. The work itself is done by the packages it calls.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// Streams are the standard streams of a command. Replies and results go to Out,
// everything for a human to Err.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// A command is one of `iris <command>`.
type command struct {
	name, args, about string
	run               func(ctx context.Context, std Streams, args []string) error
}

// commands lists the tools in the order in which help prints them.
func commands() []command {
	return []command{
		{"keygen", "-out FILE [-bits N]", "make the RSA key that all nodes of a network share", keygen},
		{"reply", "[-port P] CLUSTER -- COMMAND ARGS…", "serve requests with a command: stdin to stdout", reply},
		{"request", "[-port P] [-timeout 5s] [-header K=V]… CLUSTER [MESSAGE | -]", "send one request, print the reply", request},
		{"broadcast", "[-port P] [-header K=V]… CLUSTER [MESSAGE | -]", "send a message to every member of a cluster", broadcast},
		{"publish", "[-port P] [-lines] [-header K=V]… TOPIC [MESSAGE | -]", "publish an event, or each line of stdin as one", publish},
		{"subscribe", "[-port P] [-json] [-count N] TOPIC", "print the events of a topic", subscribe},
		{"tunnel", "[-port P] [-timeout 5s] [-header K=V]… CLUSTER | -accept CLUSTER -- COMMAND ARGS…", "connect stdin and stdout with a service, or serve tunnels with a command", tunnel},
		{"bench", "[options] request | broadcast | publish | tunnel", "measure a pattern through a node", bench},
		{"status", "[-port P] [-json]", "show what the node at a port knows", status},
		{"doctor", "[-port P] [-json]", "say why a node has no peers, and what to do", doctor},
		{"keys", "[-port P] [-json]", "show which network keys the node at a port and its peers are on", keys},
		{"demo", "", "three nodes, two services, one client, and a node that dies", demonstrate},
	}
}

// Main runs the command line given without the program name and returns the
// exit code. SIGINT and SIGTERM end what runs; a second one ends the process at once.
func Main(args []string, std Streams) int {
	ctx, stop := untilSignal()
	defer stop()
	err := dispatch(ctx, std, args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(std.Err, "iris:", message(err))
	}
	return exitCode(err)
}

// untilSignal returns a context that the first signal cancels; the second ends
// the process. stop ends that.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2 {
			select {
			case <-signals:
			case <-stopped:
				return
			}
			if ctx.Err() != nil {
				os.Exit(exitFailed)
			}
			cancel()
		}
	})
	return ctx, func() {
		close(stopped) // signals stay caught: one that comes now does not change how the process ends
		wg.Wait()
		cancel()
	}
}

func dispatch(ctx context.Context, std Streams, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return runNode(ctx, std, args)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, std, args[1:])
		}
	}
	return usagef("unknown command %q: `iris -help` lists the commands", args[0])
}

// newFlags returns the flag set of the named command. It prints its own help
// and leaves reporting of errors to Main.
func newFlags(std Streams, name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() { commandHelp(std.Out, name, flags) }
	return flags
}

// parse reads args into flags and checks that between least and most
// positional arguments remain; most < 0 means any number.
func parse(flags *flag.FlagSet, args []string, least, most int) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usagef("%s: %v", flags.Name(), err)
	}
	if flags.NArg() < least {
		return usagef("%s: an argument is missing: `iris %s -help` shows which", flags.Name(), flags.Name())
	}
	if most >= 0 && flags.NArg() > most {
		return usagef("%s: unexpected argument %q", flags.Name(), flags.Arg(most))
	}
	return nil
}

// portFlag defines the -port option of the tools.
func portFlag(flags *flag.FlagSet) *int {
	return flags.Int("port", defaultPort, "relay endpoint of the node to attach to")
}

// headerFlag defines the -header option of the tools that send: K=V, any number
// of times. The map is nil where there is none.
func headerFlag(flags *flag.FlagSet) *map[string]string {
	var headers map[string]string
	flags.Func("header", "K=V: a header to send along, such as a trace context; repeatable", func(arg string) error {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return errors.New("it is not K=V")
		}
		if headers == nil {
			headers = make(map[string]string)
		}
		headers[name] = value
		return nil
	})
	return &headers
}
