package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// A checkup is what `iris doctor -json` prints, as far as tests need it.
type checkup struct {
	Fine     bool
	Findings []struct {
		Problem      bool
		What, Remedy string
	}
	Node *node.Diagnosis
}

// consult runs the doctor on the node at port, in both forms, and returns what the
// text says.
func consult(t *testing.T, port int) (checkup, string) {
	t.Helper()
	at := strconv.Itoa(port)
	o := run(t, "", "doctor", "-port", at, "-json")
	var c checkup
	require.NoError(t, json.Unmarshal([]byte(o.out), &c), "%s%s", o.out, o.errors)
	want := 1
	if c.Fine {
		want = 0
	}
	require.Equal(t, want, o.code, o.errors)
	text := run(t, "", "doctor", "-port", at)
	require.Equal(t, want, text.code, text.errors)
	for _, f := range c.Findings {
		require.Contains(t, text.out, f.What)
		require.Contains(t, text.out, f.Remedy)
	}
	return c, text.out
}

// start1 runs one node of the subnet until the test ends.
func start1(t *testing.T, cfg cluster.Config, host int) *cluster.Node {
	t.Helper()
	c := startWith(t, cfg)
	n, err := c.Add(host)
	require.NoError(t, err)
	_, err = n.AwaitStatus(t.Context(), patience, func(node.Status) bool { return true })
	require.NoError(t, err)
	return n
}

func TestDoctorFindsEverythingFine(t *testing.T) {
	c := startCluster(t, 2)
	found, text := consult(t, c.Nodes[0].Port)
	require.True(t, found.Fine, text)
	require.Empty(t, found.Findings)
	require.Equal(t, 1, found.Node.Peers)
	require.Contains(t, text, "All is well.")
	require.Contains(t, text, c.Nodes[0].Bind.String())
}

func TestDoctorFindsADeveloperNodeFine(t *testing.T) {
	d := startDev(t)
	d.attach(t)
	found, text := consult(t, d.port)
	require.True(t, found.Fine)
	require.Contains(t, text, "works alone")
}

func TestDoctorTellsThatANodeIsAlone(t *testing.T) {
	n := start1(t, cluster.Config{}, 1)
	found, text := consult(t, n.Port)
	require.False(t, found.Fine)
	require.Len(t, found.Findings, 1)
	require.Contains(t, text, "PROBLEM: No other node of this network has answered on "+n.Bind.Masked().String())
	require.NotZero(t, found.Node.Probes.Sent)

	n = start1(t, cluster.Config{Bits: 32}, 1)
	_, text = consult(t, n.Port)
	require.Contains(t, text, "The mask of "+n.Bind.String()+" is /32")
	require.Contains(t, text, "-join HOST")
}

func TestDoctorTellsOtherKeysAndOtherNamesApart(t *testing.T) {
	key, other := newKey(t), filepath.Join(t.TempDir(), "other.pem")
	require.NoError(t, cluster.WriteKey(other))
	for want, stranger := range map[string]cluster.Config{
		"1 node near this one uses another key":              {Key: other, Network: "home"},
		"1 node has the same key but another network name":   {Key: key, Network: "else"},
		"give them the same name as this one: -net home.":    {Key: key, Network: "else"},
		"copy the same key file to every host (and give the": {Key: other, Network: "home"},
	} {
		stranger.Subnet = cluster.RandomSubnet(28)
		n := start1(t, cluster.Config{Subnet: stranger.Subnet, Key: key, Network: "home"}, 1)
		start1(t, stranger, 2) // it has converged, so it has probed every address
		found, text := consult(t, n.Port)
		require.False(t, found.Fine)
		require.Contains(t, text, want)
		require.Len(t, found.Findings, 1, text)
	}
}

func TestDoctorTellsThatNoNodeRunsAndWhoHoldsThePorts(t *testing.T) {
	port, err := cluster.FreePort()
	require.NoError(t, err)
	found, text := consult(t, port)
	require.False(t, found.Fine)
	require.Nil(t, found.Node)
	require.Contains(t, text, fmt.Sprintf("No node is running that clients reach at port %d", port))
	if runtime.GOOS != "linux" {
		return
	}
	addr := cluster.RandomSubnet(28).Addr().Next()
	for p := uint16(23550); p < 23555; p++ {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, p)))
		require.NoError(t, err)
		defer conn.Close()
	}
	_, text = consult(t, port)
	require.Contains(t, text, fmt.Sprintf("UDP port  %s:23552 is held by e2e.test (pid %d)", addr, os.Getpid()))
	require.Contains(t, text, fmt.Sprintf("All UDP ports that nodes live on, 23550 to 23554, are taken on %s.", addr))
	require.Contains(t, text, "with -bind")
}
