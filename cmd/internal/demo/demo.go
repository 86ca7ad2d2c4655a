// Package demo shows Iris at work on one machine: three node processes on
// loopback addresses, two services that count words, a client with a text to
// count, and a node that is killed on the way.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

const (
	textBytes = 512 << 10
	partBytes = 2 << 10
	patience  = 20 * time.Second // for each step; the whole demo takes a few seconds
)

// Run plays the demo and tells about it on out. What it started is gone when
// it returns.
func Run(ctx context.Context, out io.Writer) (err error) {
	fmt.Fprintln(out, "Starting three nodes of one network, with a fresh key, on three loopback addresses …")
	began := time.Now()
	nodes, err := cluster.Start(ctx, cluster.Config{Nodes: 3})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.Close()) }()
	for i, n := range nodes.Nodes {
		fmt.Fprintf(out, "  node %d  %s  clients attach at port %d\n", i+1, n.Bind, n.Port)
	}
	if err := nodes.AwaitPeers(ctx, patience); err != nil {
		return err
	}
	fmt.Fprintf(out, "They found and trust each other after %v.\n\n", time.Since(began).Round(time.Millisecond))

	quiet := iris.WithLogger(slog.New(slog.DiscardHandler)) // a lost node is part of the play
	var services []*iris.Service
	var counters []*counter
	defer func() {
		for _, s := range services {
			err = errors.Join(err, s.Unregister())
		}
	}()
	for i := range 2 {
		c := &counter{name: fmt.Sprintf("counter on node %d", i+1), heard: make(chan struct{}, 1)}
		counters = append(counters, c)
		s, err := iris.Register(nodes.Nodes[i].Port, "wordcount", c, nil, iris.WithDialer(nodes.Nodes[i].Dial), quiet)
		if err != nil {
			return err
		}
		services = append(services, s)
	}
	conn, err := iris.Connect(nodes.Nodes[2].Port, iris.WithDialer(nodes.Nodes[2].Dial), quiet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return play(ctx, out, nodes, counters, conn)
}

// play counts the text once with both services, shows the other patterns, and
// counts it once more while a node dies.
func play(ctx context.Context, out io.Writer, nodes *cluster.Cluster, counters []*counter, conn *iris.Connection) error {
	text := writeText(textBytes, 1)
	parts := split(text, partBytes)
	fmt.Fprintf(out, "A client on node 3 sends %d KiB of text in %d parts to the cluster \"wordcount\".\n", len(text)>>10, len(parts))
	job := &job{conn: conn, want: count(text)}
	if err := job.run(ctx, parts, nil); err != nil {
		return err
	}
	if job.failed > 0 {
		return fmt.Errorf("demo: %d of %d requests failed while nothing was wrong", job.failed, len(parts))
	}
	job.report(out)

	if err := showOthers(ctx, out, nodes, counters, conn, text); err != nil {
		return err
	}
	fmt.Fprintf(out, "Again, and in the middle of it node 1 is killed (kill -9).\n")
	job.reset()
	kill := func() error { return nodes.Nodes[0].Kill() }
	if err := job.run(ctx, parts, kill); err != nil {
		return err
	}
	job.report(out)
	fmt.Fprintln(out, "Requests went on: that is all there is to operate.")
	return nil
}

// report prints who answered how many parts and the checked totals.
func (j *job) report(out io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(j.answered)) {
		fmt.Fprintf(out, "  %-18s answered %4d parts\n", name, j.answered[name])
	}
	if j.failed > 0 {
		fmt.Fprintf(out, "  %d were in flight to the dead node: they failed within %v (%s) and were sent again\n",
			j.failed, j.slowestFailure.Round(time.Millisecond), j.failure)
	}
	total := 0
	for _, n := range j.total {
		total += n
	}
	fmt.Fprintf(out, "  %d words, %d different, in %v: checked against a count made here\n\n", total, len(j.total), j.took.Round(time.Millisecond))
}
