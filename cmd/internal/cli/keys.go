package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
)

// A keyReport is what `iris keys -json` prints.
type keyReport struct {
	node.Keys
	Peers map[string]int `json:"peers"` // how many are on which key
}

// keys prints which keys the attached node and its peers are on: whether a change
// of the network's key may go on to its next step.
func keys(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "keys")
	port := portFlag(flags)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	s, err := askStatus(ctx, *port)
	if err != nil {
		return err
	}
	if s.Keys == nil {
		return errors.New("keys: the node runs in developer mode, without any key")
	}
	report := keyReport{Keys: *s.Keys, Peers: map[string]int{}}
	for _, p := range s.Peers {
		if p.Key != "" {
			report.Peers[p.Key]++
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(std.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return printKeys(std.Out, report)
}

func printKeys(w io.Writer, r keyReport) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(table, "KEY\tTHIS NODE\tPEERS\n%s\tsigns\t%d\n", r.Signs, r.Peers[r.Signs])
	for _, key := range r.Accepts {
		fmt.Fprintf(table, "%s\taccepts\t%d\n", key, r.Peers[key])
	}
	fmt.Fprintf(table, "\nread at %s\n", r.Loaded.Format(time.RFC3339))
	if r.Failed != "" {
		fmt.Fprintf(table, "READING FAILED at %s: %s\n", r.FailedAt.Format(time.RFC3339), r.Failed)
	}
	return table.Flush()
}
