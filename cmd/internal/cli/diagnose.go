package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
)

// diagnose says in plain words what d means: why there are no peers, or that there
// are some.
func diagnose(d node.Diagnosis) []finding {
	if d.Dev {
		return []finding{{false, "This node was started with -dev: it works alone and looks for nobody.", "Start it with -net and -rsa to have it join a network."}}
	}
	alone := d.Peers == 0
	findings := slices.Concat(strangers(d, alone), refused(d, alone), undeliverable(d, alone), joins(d, alone))
	if !alone {
		return findings
	}
	findings = append(findings, masks(d)...)
	if d.Probes.Hits > 0 {
		findings = append(findings, finding{true, "Other nodes have answered probes, but there is no link to any of them now.",
			"If they were not just stopped, see this node's log, and whether a firewall lets only small UDP packets through."})
	} else if len(d.Strangers) == 0 {
		findings = append(findings, finding{true, "No other node of this network has answered" + on(d) + ".",
			"Start another node there with the same -net and key. If one runs, see that no firewall or security group drops UDP ports 23550 to 23554 between them."})
	}
	return findings
}

// on tells where was looked.
func on(d node.Diagnosis) string {
	var where []string
	for _, s := range d.Subnets {
		where = append(where, strings.TrimPrefix(s.Interface+" "+s.Probed.String(), " "))
	}
	if len(where) == 0 {
		return ""
	}
	return " on " + strings.Join(where, ", ")
}

// nodes counts in words.
func nodes(n int, verb, verbs string) string {
	if n == 1 {
		return "1 node " + verb
	}
	return fmt.Sprintf("%d nodes %s", n, verbs)
}

// strangers tells of nodes that are near but belong to other networks.
func strangers(d node.Diagnosis, alone bool) (findings []finding) {
	var key, name []string
	for _, s := range d.Strangers {
		if s.SameKey {
			name = append(name, s.Address)
		} else {
			key = append(key, s.Address)
		}
	}
	if len(key) > 0 {
		findings = append(findings, finding{alone, nodes(len(key), "near this one uses", "near this one use") + " another key: " + some(key) + ".",
			"If they are to be of this network, copy the same key file to every host (and give the same -net)."})
	}
	if len(name) > 0 {
		findings = append(findings, finding{alone, nodes(len(name), "has", "have") + " the same key but another network name: " + some(name) + ".",
			fmt.Sprintf("If they are to be of this network, give them the same name as this one: -net %s.", d.Network)})
	}
	return findings
}

// some lists the first few.
func some(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}

// refused tells of handshakes that were turned away. Refused probes are told by
// strangers.
func refused(d node.Diagnosis, alone bool) (findings []finding) {
	for _, reason := range slices.Sorted(maps.Keys(d.Refused)) {
		// Who closes a link of his own accord, and who is met twice, is not turned away.
		if n := d.Refused[reason]; n > 0 && !strings.HasPrefix(reason, "probe-") && reason != "self" {
			findings = append(findings, finding{alone, fmt.Sprintf("%d handshakes with other nodes were refused: %s.", n, reason), remedyOf(reason)})
		}
	}
	if n := d.Refused["probe-version"]; n > 0 {
		findings = append(findings, finding{alone, fmt.Sprintf("%d probes were of another version of Iris.", n), "Run the same version everywhere."})
	}
	return findings
}

func remedyOf(reason string) string {
	switch reason {
	case "expired":
		return "Set the clocks of the hosts right."
	case "version", "hello":
		return "Run the same version of Iris everywhere."
	}
	return "See that all hosts have the same key file and -net; the node's log names the addresses."
}

// undeliverable tells of probes that the system did not send.
func undeliverable(d node.Diagnosis, alone bool) (findings []finding) {
	if n := d.Failed["denied"]; n > 0 {
		findings = append(findings, finding{alone, fmt.Sprintf("This host's own firewall forbade %d probes.", n),
			"Let UDP ports 23550 to 23554 through in both directions, with nftables, iptables or the like."})
	}
	if n := d.Failed["unreachable"]; alone && n > 0 && d.Probes.Sent == 0 {
		findings = append(findings, finding{true, fmt.Sprintf("There was no route for %d probes, that is all of them.", n),
			"See that the network interface is up: `ip route`."})
	}
	return findings
}

// joins tells of hosts named by -join.
func joins(d node.Diagnosis, alone bool) (findings []finding) {
	for _, j := range d.Join {
		switch {
		case j.Error != "":
			findings = append(findings, finding{alone, fmt.Sprintf("The host to join, %s, has no address: %s.", j.Host, j.Error),
				"Correct -join, or the name in DNS. The node tries again by itself."})
		case alone && d.Probes.Hits == 0:
			findings = append(findings, finding{true, fmt.Sprintf("No node of this network has answered at the host to join, %s.", j.Host),
				"See that a node runs there, with the same -net and key, and that UDP ports 23550 to 23554 are open on the way, both ways."})
		}
	}
	return findings
}

// masks tells of subnets that a sweep finds nobody on, or late.
func masks(d node.Diagnosis) (findings []finding) {
	if len(d.Join) > 0 {
		return nil
	}
	const join = "Name one or more other nodes with -join HOST; through one of them all are found."
	for _, s := range d.Subnets {
		bits := s.Address.Bits()
		switch {
		case s.Bridge:
		case bits == 32:
			findings = append(findings, finding{true, fmt.Sprintf("The mask of %s is /32: no other host can be found by probing.", describeSubnet(s)), join})
		case bits < s.Probed.Bits():
			findings = append(findings, finding{true, fmt.Sprintf("The subnet %s is too large to be swept: only %s around the own address is.", s.Address.Masked(), s.Probed), join})
		case s.Probed.Bits() < 22:
			// discovery spares the neighbour table: 150 addresses a second.
			lap := time.Duration(1<<(32-s.Probed.Bits())) * time.Second / 150
			if d.UptimeSeconds < lap.Seconds() {
				findings = append(findings, finding{true, fmt.Sprintf("The subnet %s is large: it takes up to %v to be swept once, and the node is up for %.0f s.",
					s.Probed, lap.Round(time.Second), d.UptimeSeconds), "Wait, or do not wait: " + strings.ToLower(join[:1]) + join[1:]})
			}
		}
	}
	return findings
}
