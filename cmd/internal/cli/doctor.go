package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

// A checkup is what the doctor found. Its JSON form is what `iris doctor -json`
// prints.
type checkup struct {
	Fine     bool            `json:"fine"`
	Findings []finding       `json:"findings"`
	Node     *node.Diagnosis `json:"node"`  // what the node says; null if there is none
	Ports    []portHolder    `json:"ports"` // who holds the UDP ports of nodes on this host, as far as can be seen
}

// A finding is something worth telling.
type finding struct {
	Problem bool   `json:"problem"` // it keeps the node from its peers
	What    string `json:"what"`
	Remedy  string `json:"remedy,omitempty"`
}

// doctor tells why a node has no peers, and what to do. It fails if there is a problem.
func doctor(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "doctor")
	port := portFlag(flags)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	c := examine(ctx, *port)
	if *asJSON {
		encoder := json.NewEncoder(std.Out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(c); err != nil {
			return err
		}
	} else {
		printCheckup(std.Out, c)
	}
	if !c.Fine {
		return errors.New("doctor: not all is well")
	}
	return nil
}

// examine asks the node at port, and looks at the host.
func examine(ctx context.Context, port int) checkup {
	c := checkup{Ports: portHolders()}
	d, err := consult(ctx, port)
	switch {
	case errors.Is(err, iris.ErrNoNode):
		c.Findings = append([]finding{{true, fmt.Sprintf("No node is running that clients reach at port %d.", port),
			"Start one: `iris -net NAME -rsa FILE`; if it runs with another -port, name that one here, and as the same user. " +
				"A node that has just started opens its port after a few seconds; one that ended has logged why."}}, crowded(c.Ports)...)
	case err != nil:
		c.Findings = []finding{{true, fmt.Sprintf("The node at port %d gives no account of itself: %s.", port, message(err)),
			"Compare `iris status` and the versions of iris and node; start the node anew if it does not answer at all."}}
	default:
		c.Node, c.Findings = &d, diagnose(d)
	}
	c.Fine = true
	for _, f := range c.Findings {
		c.Fine = c.Fine && !f.Problem
	}
	return c
}

// consult asks the node what it knows.
func consult(ctx context.Context, port int) (node.Diagnosis, error) {
	var d node.Diagnosis
	answer, err := ask(ctx, port, &iris.Request{Cluster: node.SelfCluster, Payload: []byte("doctor")}, 5*time.Second)
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(answer.Payload, &d)
}

func printCheckup(w io.Writer, c checkup) {
	if d := c.Node; d != nil {
		fmt.Fprintf(w, "network   %s\nnode      %.16s at %s, up %v\n", d.Network, d.Node, orNone(d.Address),
			time.Duration(d.UptimeSeconds*float64(time.Second)).Round(time.Second))
		for _, s := range d.Subnets {
			fmt.Fprintf(w, "looks on  %s\n", describeSubnet(s))
		}
		for _, j := range d.Join {
			fmt.Fprintf(w, "joins     %s: %s\n", j.Host, orNone(j.Error+strings.Join(j.Targets, " ")))
		}
		fmt.Fprintf(w, "probes    %d sent, %d of them answered; %d of other nodes answered\ncalls     %d sent, %d of other nodes heard\npeers     %d\n",
			d.Probes.Sent, d.Probes.Hits, d.Probes.Answered, d.Probes.Called, d.Probes.Heard, d.Peers)
	}
	for _, p := range c.Ports {
		fmt.Fprintf(w, "UDP port  %s is held by %s\n", p.Address, p.who())
	}
	for _, f := range c.Findings {
		sort := "note"
		if f.Problem {
			sort = "PROBLEM"
		}
		fmt.Fprintf(w, "\n%s: %s\n", sort, f.What)
		if f.Remedy != "" {
			fmt.Fprintf(w, "  do: %s\n", f.Remedy)
		}
	}
	if c.Fine {
		fmt.Fprint(w, "\nAll is well.\n")
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// describeSubnet names an interface, its mask and what of it is searched.
func describeSubnet(s node.Subnet) string {
	text := s.Address.String()
	if s.Interface != "" {
		text = s.Interface + ": " + text
	}
	if s.Probed != s.Address.Masked() {
		text += ", only " + s.Probed.String() + " of it"
	}
	if s.Broadcast {
		text += ", by broadcast too"
	}
	if s.Multicast {
		text += ", by multicast too"
	}
	if s.Bridge {
		text += ", after the others"
	}
	return text
}
