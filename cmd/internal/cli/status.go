package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

// status prints what the attached node knows.
func status(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "status")
	port := portFlag(flags)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	s, err := askStatus(ctx, *port)
	if err != nil {
		return err
	}
	if *asJSON {
		encoder := json.NewEncoder(std.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	return printStatus(std.Out, s)
}

// askStatus asks the node at a port what it knows.
func askStatus(ctx context.Context, port int) (node.Status, error) {
	var s node.Status
	answer, err := ask(ctx, port, &iris.Request{Cluster: node.SelfCluster, Payload: []byte("status")}, 5*time.Second)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(answer.Payload, &s); err != nil {
		return s, fmt.Errorf("the node at port %d answered in a form this iris does not know: %w", port, err)
	}
	return s, nil
}

func printStatus(w io.Writer, s node.Status) error {
	state := "looking for peers"
	if s.Converged {
		state = "converged"
	}
	fmt.Fprintf(w, "network   %s (%s)\nnode      %s\naddress   %s\nuptime    %s\n",
		s.Network, state, s.Node, s.Address, time.Duration(s.UptimeSeconds*float64(time.Second)).Round(time.Second))
	if s.Keys != nil {
		fmt.Fprintf(w, "key       %s\n", s.Keys.Signs)
		if s.Keys.Failed != "" {
			fmt.Fprintf(w, "KEY FILE NOT READ at %s, the keys from before are in use: %s\n", s.Keys.FailedAt.Format(time.RFC3339), s.Keys.Failed)
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(table, "\nPEER\tADDRESS\tROUND TRIP\tKEY\n")
	for _, p := range s.Peers {
		fmt.Fprintf(table, "%.16s\t%s\t%.2f ms\t%s\n", p.Node, p.Address, p.RoundTripMS, p.Key)
	}
	fmt.Fprintf(table, "\nCLUSTER\tMEMBERS\tON NODE\n")
	for _, c := range s.Clusters {
		for _, m := range c.Members {
			fmt.Fprintf(table, "%s\t%d\t%.16s\n", c.Name, m.Count, m.Node)
		}
	}
	if s.Topics > 0 {
		fmt.Fprintf(table, "\nTOPICS\t%d\n", s.Topics)
	}
	fmt.Fprintf(table, "\nCLIENT\tCLUSTER\tDETAIL\n")
	for _, c := range s.Clients {
		fmt.Fprintf(table, "%d\t%s\t%s\n", c.Conn, c.Cluster, describe(c))
	}
	for reason, n := range s.Refused {
		fmt.Fprintf(table, "\nREFUSED\t%s\t%d\n", reason, n)
	}
	return table.Flush()
}

// describe tells what a client has and, if it is slow, what it missed.
func describe(c node.Client) string {
	text := fmt.Sprintf("%d unanswered, %d running, %d topics, %d tunnels", c.Unanswered, c.Running, c.Subscriptions, c.Tunnels)
	for _, kind := range slices.Sorted(maps.Keys(c.Dropped)) {
		text += fmt.Sprintf(", SLOW: missed %d (%s)", c.Dropped[kind], kind)
	}
	return text
}
