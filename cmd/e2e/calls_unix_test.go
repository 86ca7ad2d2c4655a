//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/node"
)

// in runs a command on a host.
func (w *wiring) in(host string, command ...string) string {
	w.t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", w.space(host)}, command...)...).CombinedOutput()
	require.NoError(w.t, err, "%v: %s", command, out)
	return string(out)
}

// disableIPv6 lets a host have no IPv6, on the interfaces that it is going to have.
func (w *wiring) disableIPv6(host string) {
	for _, which := range []string{"all", "default"} {
		w.in(host, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6")
	}
}

// dropBroadcast filters IPv4 broadcast on a host.
func (w *wiring) dropBroadcast(host string) {
	w.in(host, "iptables", "-A", "INPUT", "-m", "pkttype", "--pkt-type", "broadcast", "-j", "DROP")
}

// lan puts hosts on one bridge, on which IPv4 broadcast is filtered, and waits until their IPv6 addresses may be used.
func (w *wiring) lan(hosts map[string]string) {
	w.t.Helper()
	if _, err := exec.LookPath("iptables"); err != nil {
		w.t.Skip("filters broadcast: needs iptables")
	}
	w.bridge("lan")
	for host, addr := range hosts {
		w.host(host)
		w.plug(host, "eth0", addr, "lan")
		w.dropBroadcast(host)
	}
	for host := range hosts {
		require.Eventually(w.t, func() bool {
			show := []string{"ip", "-6", "addr", "show", "dev", "eth0", "scope", "link"}
			return w.in(host, show...) != "" && w.in(host, append(show, "tentative")...) == ""
		}, patience, 20*time.Millisecond)
	}
}

// doctor is what a node says of itself, once clients may ask.
func (w *wiring) doctor(host string, n *wiredNode) *node.Diagnosis {
	w.t.Helper()
	n.await(w.t, "ready: clients may attach", 1)
	out, _ := exec.Command("ip", "netns", "exec", w.space(host), irisBinary, "doctor", "-json", "-port", strconv.Itoa(n.port)).Output()
	var c struct {
		Node  *node.Diagnosis `json:"node"`
		Ports []struct {
			Address netip.AddrPort `json:"address"`
		} `json:"ports"`
	}
	require.NoError(w.t, json.Unmarshal(out, &c), "%s", out)
	require.NotNil(w.t, c.Node, "%s", out)
	for _, p := range c.Ports {
		require.True(w.t, p.Address.Addr().Is4(), "a socket for calls is told as one for nodes")
	}
	return c.Node
}

func TestTwoNodesOnALargeSubnetLinkAtOnceByACall(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	w.lan(map[string]string{"a": "10.74.0.9/20", "b": "10.74.15.77/20"})
	w.startAgainAndAgain(t, key, "without broadcast")
}

func TestAllNodesOfAHostHearACall(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	w.lan(map[string]string{"a": "10.73.0.9/20", "b": "10.73.15.77/20"})
	var nodes []*wiredNode
	for range 3 {
		nodes = append(nodes, w.start("a", key))
	}
	for _, n := range nodes {
		n.await(t, "peer linked", 2)
	}
	last := w.start("b", key)
	require.Less(t, last.await(t, "peer linked", 1), time.Second)
	for _, n := range nodes {
		d := w.doctor("a", n)
		require.NotZero(t, d.Probes.Heard)
		require.NotZero(t, d.Probes.Called)
		require.True(t, d.Subnets[0].Multicast)
		require.Zero(t, d.Refused["probe-self"], "its own calls came back")
		require.Empty(t, d.Failed)
	}
}

func TestInterfaceThatComesLaterIsCalledOn(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	w.lan(map[string]string{"a": "10.71.0.9/20", "b": "10.71.15.77/20"})
	w.bridge("right")
	w.host("c")
	w.plug("c", "eth0", "192.168.71.5/20", "right")
	w.dropBroadcast("c")
	w.start("a", key).await(t, "node started", 1)
	c := w.start("c", key)
	b := w.start("b", key)
	b.await(t, "peer linked", 1)
	w.plug("b", "eth1", "192.168.76.6/20", "right")
	plugged := time.Now()
	c.await(t, "peer linked", 1)
	t.Logf("a node on an interface that came later has its link %v after it", time.Since(plugged))
	require.NotZero(t, w.doctor("c", c).Probes.Heard)
	require.NotContains(t, b.told(), "no longer looking")
}

func TestHostWithoutIPv6IsFoundAsBefore(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	w.bridge("lan")
	for i := range 2 {
		host := fmt.Sprint("h", i)
		w.host(host)
		if i == 1 {
			w.disableIPv6(host)
		}
		w.plug(host, "eth0", fmt.Sprintf("10.72.0.%d/24", 9+i), "lan")
	}
	first := w.start("h0", key)
	first.await(t, "node started", 1)
	second := w.start("h1", key)
	took := second.await(t, "peer linked", 1)
	first.await(t, "peer linked", 1)
	t.Logf("a node without IPv6 links %v after its start", took)
	require.Less(t, took, time.Second)
	d := w.doctor("h1", second)
	require.False(t, d.Subnets[0].Multicast)
	require.Zero(t, d.Probes.Called)
	require.Empty(t, d.Failed)
}
