package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/project-iris/iris/cmd/internal/load"
)

// benchOptions are the options of iris bench.
type benchOptions struct {
	port, serveAt int
	cluster       string
	size          int
	config        load.Config
	json          bool
}

// A benchReport is what `iris bench -json` prints.
type benchReport struct {
	Pattern   string       `json:"pattern"`
	Bytes     int          `json:"bytes"`
	InFlight  int          `json:"in_flight"`
	Seconds   float64      `json:"seconds"`
	PerSecond float64      `json:"per_second"`
	MBPerSec  float64      `json:"mb_per_second"`
	Sent      int64        `json:"sent"`
	Latency   load.Summary `json:"latency"` // of round trips; of delivery for broadcast and publish
}

// bench measures one pattern through a node.
func bench(ctx context.Context, std Streams, args []string) error {
	var o benchOptions
	flags := newFlags(std, "bench")
	flags.IntVar(&o.port, "port", defaultPort, "relay endpoint that sends")
	flags.IntVar(&o.serveAt, "serve-port", 0, "relay endpoint that serves or receives; 0: the same")
	flags.StringVar(&o.cluster, "cluster", "", "measure requests to this cluster instead of an echo of its own")
	flags.IntVar(&o.size, "size", 64, "bytes of a message")
	flags.IntVar(&o.config.InFlight, "c", 1, "operations in flight; with -rate: at most")
	flags.Float64Var(&o.config.Rate, "rate", 0, "operations a second; 0: as many as -c allows")
	flags.DurationVar(&o.config.Duration, "time", 5*time.Second, "how long to measure")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	if err := parse(flags, args, 1, 1); err != nil {
		return err
	}
	patterns := map[string]func(context.Context, benchOptions) (benchReport, error){
		"request": benchRequest, "broadcast": benchBroadcast, "publish": benchPublish, "tunnel": benchTunnel,
	}
	measure := patterns[flags.Arg(0)]
	switch {
	case measure == nil:
		return usagef("bench: %q: want request, broadcast, publish or tunnel", flags.Arg(0))
	case o.size < 8 || o.size > 1<<20:
		return usagef("bench: -size %d: want 8 to 1048576", o.size)
	case o.config.InFlight < 1 || o.config.InFlight > 4096:
		return usagef("bench: -c %d: want 1 to 4096", o.config.InFlight)
	case o.config.Duration <= 0 || o.config.Duration > time.Hour || o.config.Rate < 0:
		return usagef("bench: -time is at most an hour, -rate not negative")
	}
	if o.serveAt == 0 {
		o.serveAt = o.port
	}
	o.config.WarmUp = min(o.config.Duration/10, time.Second)
	finish := o.showProgress(std)
	report, err := measure(ctx, o)
	finish()
	if err != nil {
		return err
	}
	report.Pattern = flags.Arg(0)
	return report.print(std.Out, o.json)
}

// showProgress shows a bar where a human watches.
func (o *benchOptions) showProgress(std Streams) (finish func()) {
	terminal, ok := std.Err.(*os.File)
	if !ok || o.json {
		return func() {}
	}
	if info, err := terminal.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	const steps = 1000
	bar := progressbar.NewOptions(steps, progressbar.OptionSetWriter(terminal), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("measuring"))
	o.config.Progress = func(done float64) { _ = bar.Set(int(done * steps)) }
	return func() { _ = bar.Finish() }
}

// newReport sums up a run of operations of o.size bytes each.
func (o benchOptions) newReport(meter *load.Meter, sent int64) benchReport {
	s := meter.Summary()
	rate := float64(s.Count) / o.config.Duration.Seconds()
	return benchReport{Bytes: o.size, InFlight: o.config.InFlight, Seconds: o.config.Duration.Seconds(),
		PerSecond: rate, MBPerSec: rate * float64(o.size) / 1e6, Sent: sent, Latency: s}
}

func (r benchReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "%s, %d bytes, %d in flight, %.1f s\n%.0f per second, %.2f MB/s\n%s\n", r.Pattern, r.Bytes, r.InFlight, r.Seconds, r.PerSecond, r.MBPerSec, r.Latency)
	if lost := r.Sent - r.Latency.Count; r.Sent > 0 && lost > 0 {
		fmt.Fprintf(w, "%d of %d were not delivered: the receiver was slower than the sender\n", lost, r.Sent)
	}
	for text, n := range r.Latency.Errors {
		fmt.Fprintf(w, "%d failed: %s\n", n, text)
	}
	return nil
}
