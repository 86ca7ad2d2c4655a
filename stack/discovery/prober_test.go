package discovery_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

// A node is a running Prober and what it found.
type node struct {
	*discovery.Prober
	id   [32]byte
	addr netip.AddrPort
	conn *discoverytest.Conn
	stop func()

	mu    sync.Mutex // guards the fields below
	found map[netip.AddrPort][32]byte
	calls int
	peers []netip.AddrPort // what the node says it knows
}

func secret(name string) []byte {
	s := sha256.Sum256([]byte(name))
	return s[:]
}

func at(addr string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), discovery.FirstPort+uint16(port))
}

// start runs a node at addr until the test ends.
func start(t *testing.T, n *discoverytest.Net, addr netip.AddrPort, subnet string, secrets ...[]byte) *node {
	t.Helper()
	return startWith(t, n, addr, subnet, func(c *discovery.Config) { c.Secrets = secrets })
}

// startWith is start with a Config that change has changed.
func startWith(t *testing.T, n *discoverytest.Net, addr netip.AddrPort, subnet string, change func(*discovery.Config)) *node {
	t.Helper()
	x := &node{
		id:    sha256.Sum256([]byte(addr.String() + time.Now().String())),
		addr:  addr,
		conn:  n.Listen(addr),
		found: make(map[netip.AddrPort][32]byte),
	}
	cfg := discovery.Config{
		Conn:    x.conn,
		Secrets: [][]byte{secret("net")},
		Self:    x.id,
		Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}},
		Exclude: addr,
		Known:   x.known,
	}
	change(&cfg)
	p, err := discovery.New(cfg)
	require.NoError(t, err)
	x.Prober = p
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, p.Run(ctx, x.hear)) })
	x.stop = func() {
		cancel()
		wg.Wait()
		require.NoError(t, x.conn.Close())
	}
	t.Cleanup(x.stop)
	return x
}

func (x *node) hear(id [32]byte, addr netip.AddrPort) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.found[addr] = id
	x.calls++
}

func (x *node) known() []netip.AddrPort {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.peers
}

func (x *node) knows(peers ...netip.AddrPort) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.peers = peers
}

func (x *node) reports() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.calls
}

// forget empties what x found.
func (x *node) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.found)
}

func (x *node) foundAt(addr netip.AddrPort) ([32]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id, ok := x.found[addr]
	return id, ok
}

func requireFound(t *testing.T, by, other *node) {
	t.Helper()
	id, ok := by.foundAt(other.addr)
	require.True(t, ok, "%v did not find %v", by.addr, other.addr)
	require.Equal(t, other.id, id)
}

// after waits until the virtual clock is d further and everybody rests.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// probesOf keeps the probes of addr, not its answers.
func probesOf(addr netip.AddrPort, sent []discoverytest.Datagram) (probes []discoverytest.Datagram) {
	for _, d := range sent {
		if d.From == addr && d.Bytes[5] == 1 {
			probes = append(probes, d)
		}
	}
	return probes
}

func TestTwoNodesFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/24", secret("net"))
		b := start(t, &n, at("10.0.0.200", 0), "10.0.0.0/24", secret("net"))
		after(450 * time.Millisecond)
		requireFound(t, a, b)
		requireFound(t, b, a)
		require.NotZero(t, a.Counts().Hits+b.Counts().Hits)
		require.Empty(t, a.Counts().Refused)
	})
}

func TestNewcomerFindsSettledNodeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/24", secret("net"))
		after(time.Hour)
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/24", secret("net"))
		after(450 * time.Millisecond)
		requireFound(t, a, b)
		requireFound(t, b, a)
	})
}

func TestTwelveNodesFindAllOthersBeforeTheyConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		var nodes []*node
		for i := range 12 {
			nodes = append(nodes, start(t, &n, at(fmt.Sprintf("127.0.72.%d", i+1), 0), "127.0.72.0/28", secret("net")))
		}
		began := time.Now()
		for _, x := range nodes {
			<-x.Converged()
		}
		require.Less(t, time.Since(began), 500*time.Millisecond)
		for _, x := range nodes {
			for _, y := range nodes {
				if x != y {
					requireFound(t, x, y)
				}
			}
		}
	})
}

func TestNodesOnOneHostFindEachOther(t *testing.T) {
	for _, subnet := range []string{"127.0.71.1/32", "127.0.71.0/31", "127.0.71.0/29", "127.0.0.0/16"} {
		t.Run(subnet, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n discoverytest.Net
				var nodes []*node
				for i := range discovery.Ports {
					nodes = append(nodes, start(t, &n, at("127.0.71.1", i), subnet, secret("net")))
				}
				after(100 * time.Millisecond)
				for _, x := range nodes {
					for _, y := range nodes {
						if x != y {
							requireFound(t, x, y)
						}
					}
				}
			})
		})
	}
}

func TestOtherNetworkIsMetWithSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("other"))
		after(10 * time.Second)
		for _, x := range []*node{a, b} {
			c := x.Counts()
			require.Zero(t, x.reports())
			require.Zero(t, c.Hits)
			require.Zero(t, c.Answered)
			require.NotZero(t, c.Refused["mac"])
			require.Len(t, c.Refused, 1)
		}
		for _, d := range n.Sent() {
			require.EqualValues(t, 1, d.Bytes[5], "somebody answered")
		}
	})
}

func TestAnswerUsesTheSecretOfTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		changed := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("new"), secret("old"))
		after(10 * time.Second)
		old := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("old"))
		after(100 * time.Millisecond)
		requireFound(t, old, changed)
		requireFound(t, changed, old)
		require.NotZero(t, old.Counts().Hits)
	})
}

func TestProbesKeepToTheSubnets(t *testing.T) {
	for _, subnet := range []string{"10.1.2.2/32", "10.1.2.2/31", "10.1.2.0/30", "10.1.2.0/29", "10.1.2.0/24"} {
		t.Run(subnet, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n discoverytest.Net
				prefix := netip.MustParsePrefix(subnet)
				self := at("10.1.2.2", 2)
				start(t, &n, self, subnet, secret("net"))
				after(time.Hour)
				visited := make(map[netip.AddrPort]bool)
				for _, d := range n.Sent() {
					require.Len(t, d.Bytes, discovery.Size)
					require.True(t, prefix.Contains(d.To.Addr()), "probed %v", d.To)
					require.NotEqual(t, self, d.To)
					require.GreaterOrEqual(t, d.To.Port(), discovery.FirstPort)
					require.Less(t, d.To.Port(), discovery.FirstPort+discovery.Ports)
					visited[d.To] = true
				}
				hosts := 1 << (32 - prefix.Bits())
				if hosts > 2 {
					hosts -= 2
				}
				require.Len(t, visited, hosts*discovery.Ports-1)
				require.NotContains(t, visited, at("10.1.2.255", 0))
				if hosts > 2 {
					require.NotContains(t, visited, at("10.1.2.0", 0))
				}
			})
		})
	}
}

func TestHealedPartitionRejoinsWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/22", secret("net"))
		b := start(t, &n, at("10.0.3.2", 0), "10.0.0.0/22", secret("net"))
		a.knows(b.addr)
		b.knows(a.addr)
		after(time.Hour)

		n.Filter(func(discoverytest.Datagram) error { return discoverytest.ErrLost })
		a.knows()
		b.knows()
		after(time.Hour)
		a.forget()
		b.forget()
		n.Filter(nil)
		after(3 * time.Second)
		requireFound(t, a, b)
		requireFound(t, b, a)
	})
}

func TestNodeRestartedAtItsAddressIsFoundUnderItsNewID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/24", secret("net"))
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/24", secret("net"))
		after(time.Minute)
		b.stop()
		after(time.Minute)
		b = start(t, &n, at("10.0.0.2", 0), "10.0.0.0/24", secret("net"))
		after(time.Second)
		requireFound(t, a, b)
		requireFound(t, b, a)
	})
}

func TestErrorsOfTheSocketAreCountedAndSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		errs := []error{syscall.ECONNREFUSED, syscall.EPERM, syscall.EHOSTUNREACH, syscall.ENOBUFS, syscall.EINVAL}
		i := 0
		n.Filter(func(discoverytest.Datagram) error {
			i++
			return fmt.Errorf("write: %w", errs[i%len(errs)])
		})
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		<-a.Converged()
		<-b.Converged()
		for _, sort := range []string{"refused", "denied", "unreachable", "buffers", "other"} {
			require.NotZero(t, a.Counts().Failed[sort], sort)
		}
		require.Zero(t, a.Counts().Sent)
		n.Filter(nil)
		after(3 * time.Second)
		requireFound(t, a, b)
	})
}

// A flakyConn fails to read at first.
type flakyConn struct {
	*discoverytest.Conn
	failures int
}

func (c *flakyConn) ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error) {
	if c.failures > 0 {
		c.failures--
		return 0, netip.AddrPort{}, syscall.ECONNRESET
	}
	return c.Conn.ReadProbe(ctx, b)
}

func TestReadingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		p, err := discovery.New(discovery.Config{
			Conn:    &flakyConn{n.Listen(at("10.0.0.2", 0)), 5},
			Secrets: [][]byte{secret("net")},
			Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}},
		})
		require.NoError(t, err)
		heard := make(chan netip.AddrPort, 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, p.Run(ctx, func(_ [32]byte, addr netip.AddrPort) { heard <- addr }))
		require.EqualValues(t, 5, p.Counts().Failed["read"])
		require.Equal(t, at("10.0.0.1", 0), <-heard)
	})
}

func TestReadingThatKeepsFailingIsTriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		p, err := discovery.New(discovery.Config{
			Conn:    &flakyConn{n.Listen(at("10.0.0.2", 0)), 1 << 30},
			Secrets: [][]byte{secret("net")},
			Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, p.Run(ctx, nil))
		require.InDelta(t, 66, p.Counts().Failed["read"], 2)
		require.NotZero(t, p.Counts().Sent, "sending goes on")
	})
}

// A mappedConn reports IPv4 addresses in IPv6 form, as dual-stack sockets do.
type mappedConn struct{ *discoverytest.Conn }

func (c mappedConn) ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error) {
	n, addr, err := c.Conn.ReadProbe(ctx, b)
	return n, mapped(addr), err
}

func mapped(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
}

func TestAddressesInIPv6FormAreTheSameAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		self, known, other := at("10.0.0.1", 0), at("10.0.0.2", 0), at("10.0.0.3", 0)
		start(t, &n, other, "10.0.0.0/29", secret("net"))
		p, err := discovery.New(discovery.Config{
			Conn:    mappedConn{n.Listen(self)},
			Secrets: [][]byte{secret("net")},
			Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}},
			Exclude: mapped(self),
			Known:   func() []netip.AddrPort { return []netip.AddrPort{mapped(known)} },
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		heard := make(map[netip.AddrPort]bool)
		require.NoError(t, p.Run(ctx, func(_ [32]byte, addr netip.AddrPort) { heard[addr] = true }))
		require.Equal(t, map[netip.AddrPort]bool{other: true}, heard)
		require.NotZero(t, p.Counts().Hits)
		for _, d := range probesOf(self, n.Sent()) {
			require.NotEqual(t, self, d.To)
			require.NotEqual(t, known, d.To)
		}
	})
}

func TestNewNodePutsOffConvergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		began := time.Now()
		after(140 * time.Millisecond)
		start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		<-a.Converged()
		require.GreaterOrEqual(t, time.Since(began), 290*time.Millisecond)
		require.Less(t, time.Since(began), 330*time.Millisecond)
	})
}

func TestRunFailsWhenTheSocketIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		conn := n.Listen(at("10.0.0.1", 0))
		p, err := discovery.New(discovery.Config{
			Conn:    conn,
			Secrets: [][]byte{secret("net")},
			Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}},
		})
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.ErrorContains(t, p.Run(t.Context(), nil), "socket was closed")
		require.ErrorContains(t, p.Run(t.Context(), nil), "only once")
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	var n discoverytest.Net
	good := discovery.Config{
		Conn:    n.Listen(at("10.0.0.1", 0)),
		Secrets: [][]byte{secret("net")},
		Reach:   discovery.Reach{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}},
	}
	_, err := discovery.New(good)
	require.NoError(t, err)
	for want, spoil := range map[string]func(*discovery.Config){
		"no socket":                          func(c *discovery.Config) { c.Conn = nil },
		"no secret":                          func(c *discovery.Config) { c.Secrets = nil },
		"secret 1 has 15 bytes":              func(c *discovery.Config) { c.Secrets = [][]byte{bytes.Repeat([]byte{1}, 15)} },
		"no subnet":                          func(c *discovery.Config) { c.Subnets = nil },
		"subnet fd00::/64 cannot be probed":  func(c *discovery.Config) { c.Subnets = []netip.Prefix{netip.MustParsePrefix("fd00::/64")} },
		"subnet 0.0.0.0/0 cannot be probed":  func(c *discovery.Config) { c.Subnets = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"subnet 239.0.0.0/24 cannot":         func(c *discovery.Config) { c.Subnets = []netip.Prefix{netip.MustParsePrefix("239.0.0.0/24")} },
		"65 seeds: at most 64":               func(c *discovery.Config) { c.Seeds = make([]discovery.Seed, 65) },
		"10.0.0.0/31 has no broadcast":       func(c *discovery.Config) { c.Broadcast = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")} },
		"subnet invalid Prefix cannot be pr": func(c *discovery.Config) { c.Subnets = make([]netip.Prefix, 1) },
	} {
		cfg := good
		spoil(&cfg)
		_, err := discovery.New(cfg)
		require.ErrorContains(t, err, want)
	}
}
