package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/node"
)

// subnet is one that a node looks on.
func subnet(nic, address, probed string) []node.Subnet {
	return []node.Subnet{{Interface: nic, Address: netip.MustParsePrefix(address), Probed: netip.MustParsePrefix(probed)}}
}

func TestDoctorSaysInPlainWordsWhy(t *testing.T) {
	lan := subnet("eth0", "10.0.0.7/24", "10.0.0.0/24")
	ofKey := []node.Stranger{{Address: "10.0.0.8:23550"}, {Address: "10.0.0.9:23550"}}
	ofName := []node.Stranger{{Address: "10.0.0.8:23550", SameKey: true}}
	for _, row := range []struct {
		name     string
		node     node.Diagnosis
		problems []string
		notes    []string
	}{
		{"fine", node.Diagnosis{Peers: 2, Subnets: lan}, nil, nil},
		{"developer mode", node.Diagnosis{Dev: true}, nil, []string{"works alone"}},
		{"alone", node.Diagnosis{Subnets: lan}, []string{"No other node of this network has answered on eth0 10.0.0.0/24."}, nil},
		{"another key", node.Diagnosis{Subnets: lan, Strangers: ofKey}, []string{"2 nodes near this one use another key: 10.0.0.8:23550, 10.0.0.9:23550"}, nil},
		{"another name", node.Diagnosis{Subnets: lan, Strangers: ofName}, []string{"1 node has the same key but another network name"}, nil},
		{"strangers beside peers", node.Diagnosis{Peers: 1, Subnets: lan, Strangers: append(ofName, ofKey...)}, nil,
			[]string{"2 nodes near this one use another key", "1 node has the same key"}},
		{"handshakes refused", node.Diagnosis{Subnets: lan, Refused: map[string]uint64{"expired": 3, "probe-mac": 9}, Probes: node.Probes{Hits: 2}},
			[]string{"3 handshakes with other nodes were refused: expired", "but there is no link"}, nil},
		{"firewall here", node.Diagnosis{Subnets: lan, Failed: map[string]uint64{"denied": 7}}, []string{"own firewall forbade 7 probes", "No other node"}, nil},
		{"no route", node.Diagnosis{Subnets: lan, Failed: map[string]uint64{"unreachable": 7}}, []string{"no route for 7 probes", "No other node"}, nil},
		{"mask /32", node.Diagnosis{Subnets: subnet("eth0", "10.0.0.7/32", "10.0.0.7/32")}, []string{"The mask of eth0: 10.0.0.7/32 is /32", "No other node"}, nil},
		{"too large", node.Diagnosis{Subnets: subnet("eth0", "10.3.0.7/8", "10.3.0.0/16"), UptimeSeconds: 999},
			[]string{"10.0.0.0/8 is too large to be swept: only 10.3.0.0/16", "No other node"}, nil},
		{"large", node.Diagnosis{Subnets: subnet("eth0", "10.3.0.7/16", "10.3.0.0/16"), UptimeSeconds: 9},
			[]string{"10.3.0.0/16 is large: it takes up to 7m17s", "No other node"}, nil},
		{"large, and swept", node.Diagnosis{Subnets: subnet("eth0", "10.3.0.7/16", "10.3.0.0/16"), UptimeSeconds: 999}, []string{"No other node"}, nil},
		{"seed without address", node.Diagnosis{Subnets: subnet("eth0", "10.0.0.7/32", "10.0.0.7/32"), Join: []node.Join{{Host: "nodes", Error: "no such host"}}},
			[]string{"The host to join, nodes, has no address: no such host", "No other node"}, nil},
		{"seed that is silent", node.Diagnosis{Join: []node.Join{{Host: "10.9.0.1"}}}, []string{"answered at the host to join, 10.9.0.1", "No other node"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			var problems, notes []string
			for _, f := range diagnose(row.node) {
				require.NotEmpty(t, f.Remedy)
				if f.Problem {
					problems = append(problems, f.What)
				} else {
					notes = append(notes, f.What)
				}
			}
			requireEach(t, row.problems, problems)
			requireEach(t, row.notes, notes)
		})
	}
}

// requireEach checks that got are as many texts as want, each of which contains one of want.
func requireEach(t *testing.T, want, got []string) {
	t.Helper()
	require.Len(t, got, len(want), "%v", got)
	all := strings.Join(got, "\n")
	for _, w := range want {
		require.Contains(t, all, w)
	}
}

func TestTablesOfSocketsAreRead(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1: 0100007F:5BFE 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0 0
 2: 00000000:5C02 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0 0
 3: 0100007F:5BFD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0 0
 4: 0100007F:5C03 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 14 2 0 0
 5: 00000000000000000000000000000000:5BFF 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 15 2 0 0
 6: 000080FE00000000FF005450B6B8EBFE:5BFF 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 16 2 0 0
 short line
 7: zz:5BFE x x x x x x x 17 x
`
	require.Equal(t, map[string]netip.AddrPort{
		"11": netip.MustParseAddrPort("127.0.0.1:23550"),
		"12": netip.MustParseAddrPort("0.0.0.0:23554"),
		"15": netip.MustParseAddrPort("[::]:23551"),
	}, wellKnown(table))
}

func TestSocketsForCallsAreNotTold(t *testing.T) {
	hold := func(pid int, addr string) *portHolder {
		return &portHolder{Address: netip.MustParseAddrPort(addr), PID: pid}
	}
	list := withoutEars(map[string]*portHolder{
		"1": hold(7, "0.0.0.0:23551"), "2": hold(7, "[::]:23550"), // a node
		"3": hold(8, "[::]:23552"), "4": hold(0, "[::]:23553"), "5": hold(0, "0.0.0.0:23554"),
	})
	var told []string
	for _, h := range list {
		told = append(told, h.Address.String())
	}
	require.ElementsMatch(t, []string{"0.0.0.0:23551", "[::]:23552", "[::]:23553", "0.0.0.0:23554"}, told)
}

func TestPortsAreCrowdedWhereAllOfThemAreTaken(t *testing.T) {
	hold := func(list ...string) (holders []portHolder) {
		for _, s := range list {
			holders = append(holders, portHolder{Address: netip.MustParseAddrPort(s)})
		}
		return holders
	}
	require.Empty(t, crowded(nil))
	require.Empty(t, crowded(hold("10.0.0.1:23550", "10.0.0.1:23551", "10.0.0.1:23552", "10.0.0.1:23553", "10.0.0.2:23554")))
	full := crowded(hold("10.0.0.1:23550", "10.0.0.1:23551", "10.0.0.1:23552", "10.0.0.1:23553", "0.0.0.0:23554"))
	require.Len(t, full, 1)
	require.Contains(t, full[0].What, "taken on 10.0.0.1.")
}
