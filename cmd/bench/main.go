// Command bench measures Iris beside nats-server on the same machine.
//
//	go run -C cmd/bench . [-rounds 5] [-time 2s] [-only TEXT] [-profile DIR] [-json]
//
// Both are set up alike: two servers linked over mutual TLS, a service attached
// to the second, a client attached to the first or the second, every one of
// them a process of its own. Each case runs for the given time on one system,
// then on the other, and so on for the given number of rounds: only the ratio
// of the medians says something on a machine that is not quiet. Everything
// stays on loopback addresses and ends by itself.
//
// It is a module of its own, so that what it depends on stays out of Iris.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// options are the options of the command line.
type options struct {
	rounds  int
	time    time.Duration
	only    string
	profile string
	json    bool
	role    string
	spec    string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each case runs on each system")
	flag.DurationVar(&o.time, "time", 2*time.Second, "how long one run of a case takes")
	flag.StringVar(&o.only, "only", "", "run only the cases whose name contains this")
	flag.StringVar(&o.profile, "profile", "", "folder for CPU profiles of the processes of Iris, one each")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.StringVar(&o.role, "role", "", "internal: what this process is to be")
	flag.StringVar(&o.spec, "spec", "", "internal: how")
	flag.Parse()
	if o.rounds < 1 || o.rounds > 100 || o.time <= 0 || o.time > time.Minute {
		fmt.Fprintln(os.Stderr, "bench: -rounds is 1 to 100, -time at most a minute")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.role != "" {
		return play(ctx, o.role, o.spec, flag.Args())
	}
	iris, err := startIris(ctx, o.profile)
	if err != nil {
		return err
	}
	defer iris.stop()
	nats, err := startNATS(ctx)
	if err != nil {
		return err
	}
	defer nats.stop()

	r := report{Rounds: o.rounds, Time: o.time.String()}
	r.idle(iris, nats)
	for _, c := range cases(o.only) {
		results := map[string][]result{}
		for range o.rounds {
			for _, s := range []*system{iris, nats} {
				res, err := s.measure(ctx, c, o.time)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", c.Name, s.name, err)
				}
				results[s.name] = append(results[s.name], res)
			}
		}
		r.add(c, results)
		if !o.json {
			r.printLast(os.Stdout)
		}
	}
	if o.json {
		return r.printJSON(os.Stdout)
	}
	return nil
}
