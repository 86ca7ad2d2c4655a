//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
)

// A wiring is a test's own set of hosts, each a network namespace, and of bridges between
// them in one more. Nothing in them reaches the network of the machine.
type wiring struct {
	t     *testing.T
	name  string
	ports int // of bridges
}

func newWiring(t *testing.T) *wiring {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs Linux and root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("makes network namespaces: needs ip")
	}
	w := &wiring{t: t, name: fmt.Sprintf("irisw-%d", os.Getpid())}
	w.host("sw")
	return w
}

func (w *wiring) ip(args ...string) {
	w.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(w.t, err, "ip %v: %s", args, out)
}

// space is the name of a host's namespace.
func (w *wiring) space(host string) string { return w.name + "-" + host }

// host adds a host with a loopback interface.
func (w *wiring) host(name string) {
	w.ip("netns", "add", w.space(name))
	w.t.Cleanup(func() { w.ip("netns", "del", w.space(name)) })
	w.ip("-n", w.space(name), "link", "set", "lo", "up")
}

// bridge adds a bridge.
func (w *wiring) bridge(name string) {
	w.ip("-n", w.space("sw"), "link", "add", name, "type", "bridge")
	w.ip("-n", w.space("sw"), "link", "set", name, "up")
}

// plug gives a host an interface with an address, on a bridge.
func (w *wiring) plug(host, nic, addr, bridge string) {
	w.ports++
	port := fmt.Sprintf("p%d", w.ports)
	w.ip("-n", w.space("sw"), "link", "add", port, "type", "veth", "peer", "name", nic, "netns", w.space(host))
	w.ip("-n", w.space("sw"), "link", "set", port, "master", bridge, "up")
	w.ip("-n", w.space(host), "addr", "add", addr, "broadcast", "+", "dev", nic)
	w.ip("-n", w.space(host), "link", "set", nic, "up")
}

// A wired node runs on a host of a wiring, on all of its interfaces.
type wiredNode struct {
	log   string
	port  int
	began time.Time
	end   func() // kills it, once or more
}

// start runs a node until the test ends.
func (w *wiring) start(host, key string, args ...string) *wiredNode {
	w.t.Helper()
	port, err := cluster.FreePort()
	require.NoError(w.t, err)
	n := &wiredNode{log: filepath.Join(w.t.TempDir(), "log"), port: port, began: time.Now()}
	log, err := os.Create(n.log)
	require.NoError(w.t, err)
	defer log.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.space(host), irisBinary,
		"-net", "wired", "-rsa", key, "-port", strconv.Itoa(port)}, args...)...)
	cmd.Stderr = log
	require.NoError(w.t, cmd.Start())
	n.end = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	}
	w.t.Cleanup(func() {
		n.end()
		if w.t.Failed() {
			w.t.Logf("log of %s:\n%s", host, n.told())
		}
	})
	return n
}

func (n *wiredNode) told() string {
	b, _ := os.ReadFile(n.log)
	return string(b)
}

// await waits until the node has logged text so many times, and returns how long
// after its start that was.
func (n *wiredNode) await(t *testing.T, text string, times int) time.Duration {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Count(n.told(), text) >= times }, patience, 2*time.Millisecond, "%s", text)
	return time.Since(n.began)
}

func TestBroadcastFindsNodesOfALargeSubnetAtOnce(t *testing.T) {
	w := newWiring(t)
	w.bridge("lan")
	key := newKey(t)
	for i, addr := range []string{"10.77.0.9/20", "10.77.7.200/20", "10.77.15.77/20"} {
		host := fmt.Sprint("h", i)
		w.host(host)
		w.disableIPv6(host)
		w.plug(host, "eth0", addr, "lan")
	}
	var nodes []*wiredNode
	for i := range 3 {
		n := w.start(fmt.Sprint("h", i), key)
		nodes = append(nodes, n)
		if i > 0 { // alone, it would have found the others by chance only
			took := n.await(t, "peer linked", i)
			t.Logf("node %d of a /20 links to %d others %v after its start", i, i, took)
			require.Less(t, took, time.Second)
		} else {
			n.await(t, "node started", 1)
		}
	}
	nodes[0].await(t, "peer linked", 2)
}

func TestTwoNodesOnALargeSubnetLinkAtOnceByBroadcast(t *testing.T) {
	w := newWiring(t)
	w.bridge("lan")
	key := newKey(t)
	for host, addr := range map[string]string{"a": "10.76.0.9/20", "b": "10.76.15.77/20"} {
		w.host(host)
		w.disableIPv6(host)
		w.plug(host, "eth0", addr, "lan")
	}
	w.startAgainAndAgain(t, key, "without calls")
}

// startAgainAndAgain measures how long two nodes, on hosts a and b, need to link.
func (w *wiring) startAgainAndAgain(t *testing.T, key, how string) {
	t.Helper()
	var times spread
	for range max(3, *startsFlag) {
		first := w.start("a", key)
		first.await(t, "node started", 1)
		second := w.start("b", key)
		first.await(t, "peer linked", 1)
		times = append(times, second.await(t, "peer linked", 1))
		first.end()
		second.end()
	}
	t.Logf("two nodes on a /20 %s: %v", how, times)
	require.Less(t, times.at(0.5), time.Second)
	if *startsFlag > 0 {
		require.Less(t, times.at(0.99), time.Second)
	}
}

func TestNodeLooksOnBothOfItsInterfaces(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	for _, b := range []string{"left", "right"} {
		w.bridge(b)
	}
	for _, host := range []string{"a", "middle", "b"} {
		w.host(host)
	}
	w.plug("a", "eth0", "10.78.0.5/24", "left")
	w.plug("middle", "eth0", "10.78.0.6/24", "left")
	w.plug("middle", "eth1", "192.168.78.6/25", "right")
	w.plug("middle", "docker0", "172.17.0.1/16", "right") // holds nobody, and must not delay
	w.plug("b", "eth0", "192.168.78.5/25", "right")
	w.start("a", key).await(t, "node started", 1)
	w.start("b", key).await(t, "node started", 1)
	middle := w.start("middle", key)
	took := middle.await(t, "peer linked", 2)
	t.Logf("links on both sides after %v", took)
	require.Less(t, took, 2*time.Second)
	require.Contains(t, middle.told(), "subnet=10.78.0.0/24")
	require.Contains(t, middle.told(), "subnet=192.168.78.0/25")
}

func TestNodeFollowsItsInterfaces(t *testing.T) {
	w := newWiring(t)
	key := newKey(t)
	for _, b := range []string{"left", "right"} {
		w.bridge(b)
	}
	for _, host := range []string{"a", "middle", "b"} {
		w.host(host)
	}
	w.plug("a", "eth0", "10.75.0.5/24", "left")
	w.plug("middle", "eth0", "10.75.0.6/24", "left")
	w.plug("b", "eth0", "192.168.75.5/25", "right")
	w.start("a", key).await(t, "node started", 1)
	b := w.start("b", key)
	middle := w.start("middle", key)
	middle.await(t, "peer linked", 1)
	middle.await(t, "ready: clients may attach", 1)

	w.plug("middle", "eth1", "192.168.75.6/25", "right")
	plugged := time.Now()
	middle.await(t, "subnet=192.168.75.0/25", 1)
	middle.await(t, "peer linked", 2)
	b.await(t, "peer linked", 1)
	t.Logf("a node on an interface that came later has its link %v after it", time.Since(plugged))

	w.ip("-n", w.space("middle"), "link", "del", "eth1")
	middle.await(t, "no longer looking for other nodes", 1)
	require.Contains(t, middle.told(), "interface=eth1")
	require.Equal(t, 1, strings.Count(middle.told(), "no longer looking"))
}

func TestNodesOfOneHostFindEachOtherOnAllAddresses(t *testing.T) {
	w := newWiring(t)
	w.bridge("lan")
	w.host("h")
	w.plug("h", "eth0", "10.79.3.9/32", "lan")
	key := newKey(t)
	first := w.start("h", key)
	first.await(t, "the mask is /32", 1)
	second := w.start("h", key)
	took := second.await(t, "peer linked", 1)
	first.await(t, "peer linked", 1)
	t.Logf("a second node on the host is found after %v", took)
	require.Less(t, took, time.Second)
}
