package discovery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

func TestSeedsAreRead(t *testing.T) {
	for text, want := range map[string]discovery.Seed{
		"10.0.0.1":        {Host: "10.0.0.1"},
		"10.0.0.1:23551":  {Host: "10.0.0.1", Port: 23551},
		"nodes.internal":  {Host: "nodes.internal"},
		"nodes:65535":     {Host: "nodes", Port: 65535},
		"nodes.internal.": {Host: "nodes.internal."},
	} {
		seed, err := discovery.ParseSeed(text)
		require.NoError(t, err)
		require.Equal(t, want, seed)
		require.Equal(t, text, seed.String())
	}
	for text, want := range map[string]string{
		"":           "not HOST or HOST:PORT",
		":23550":     "not HOST or HOST:PORT",
		"a b":        "not HOST or HOST:PORT",
		"10.0.0.0/8": "not HOST or HOST:PORT",
		"a:0":        "a port is 1 to 65535",
		"a:65536":    "a port is 1 to 65535",
		"a:":         "a port is 1 to 65535",
		"::1":        "IPv6",
		"[::1]:23":   "IPv6",
	} {
		_, err := discovery.ParseSeed(text)
		require.ErrorContains(t, err, want, text)
	}
}

// A nameServer is a Lookup of a name whose addresses change.
type nameServer struct {
	mu    sync.Mutex // guards the fields below
	addrs []netip.Addr
	asked []time.Time
}

func (s *nameServer) set(addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = nil
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParseAddr(a))
	}
}

func (s *nameServer) lookUp(context.Context, string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, time.Now())
	if s.addrs == nil {
		return nil, errors.New("no such host")
	}
	return s.addrs, nil
}

// questions empties and counts what was asked.
func (s *nameServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.asked)
	s.asked = nil
	return n
}

func TestSeedJoinsTwoSubnets(t *testing.T) {
	for _, seed := range []discovery.Seed{{Host: "10.1.0.3", Port: discovery.FirstPort + 2}, {Host: "10.1.0.3"}} {
		synctest.Test(t, func(t *testing.T) {
			var n discoverytest.Net
			there := start(t, &n, at("10.1.0.3", 2), "10.1.0.0/28", secret("net"))
			here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/28", func(c *discovery.Config) { c.Seeds = []discovery.Seed{seed} })
			<-here.Converged()
			requireFound(t, here, there)
			requireFound(t, there, here)
		})
	}
}

func TestSeedIsFoundWhileALargeSubnetIsSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/16", func(c *discovery.Config) {
			c.Seeds = []discovery.Seed{{Host: "10.1.0.3", Port: discovery.FirstPort}}
		})
		after(time.Minute)
		there := start(t, &n, at("10.1.0.3", 0), "10.1.0.3/32", secret("net"))
		after(time.Second)
		requireFound(t, here, there)
	})
}

func TestNameWithManyAddressesIsProbedAtAllOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		var names nameServer
		names.set("10.1.0.1", "10.1.0.2", "10.1.0.3")
		here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/28", func(c *discovery.Config) {
			c.Seeds, c.Lookup = []discovery.Seed{{Host: "nodes"}}, names.lookUp
		})
		<-here.Converged()
		probed := make(map[netip.AddrPort]bool)
		for _, d := range probesOf(here.addr, n.Sent()) {
			probed[d.To] = true
		}
		for _, a := range []string{"10.1.0.1", "10.1.0.2", "10.1.0.3"} {
			for p := range discovery.Ports {
				require.True(t, probed[at(a, p)], "%s, port %d", a, p)
			}
		}
	})
}

func TestNamesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		var names nameServer
		var logs bytes.Buffer
		here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/28", func(c *discovery.Config) {
			c.Seeds, c.Lookup = []discovery.Seed{{Host: "nodes", Port: discovery.FirstPort}}, names.lookUp
			c.Log = slog.New(slog.NewTextHandler(&logs, nil))
		})
		first := start(t, &n, at("10.1.0.1", 0), "10.1.0.1/32", secret("net"))
		after(time.Minute - time.Nanosecond)
		require.Equal(t, 20, names.questions(), "a node that knows nobody asks every 3 s")
		require.Equal(t, 1, strings.Count(logs.String(), "cannot look up"), "a failure is logged once")
		require.ErrorContains(t, here.Seeds()[0].Err, "no such host")

		names.set("10.1.0.1")
		after(5 * time.Second)
		requireFound(t, here, first)
		require.NoError(t, here.Seeds()[0].Err)
		require.Len(t, here.Seeds()[0].Targets, 1)

		here.knows(first.addr)
		after(40 * time.Second)
		names.questions()
		after(5 * time.Minute)
		require.Equal(t, 10, names.questions(), "a node that has peers asks every 30 s")

		second := start(t, &n, at("10.1.0.2", 0), "10.1.0.2/32", secret("net"))
		names.set("10.1.0.1", "10.1.0.2")
		after(31 * time.Second)
		requireFound(t, here, second)
	})
}

func TestSlowNameServerPutsOffConvergenceButNotForLong(t *testing.T) {
	for takes, want := range map[time.Duration]time.Duration{time.Second: 1160 * time.Millisecond, time.Hour: 2150 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			var n discoverytest.Net
			began := time.Now()
			here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/28", func(c *discovery.Config) {
				c.Seeds = []discovery.Seed{{Host: "nodes"}}
				c.Lookup = func(ctx context.Context, _ string) ([]netip.Addr, error) {
					select {
					case <-time.After(takes):
						return []netip.Addr{netip.MustParseAddr("10.1.0.1")}, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
			})
			<-here.Converged()
			require.InDelta(t, want, time.Since(began), float64(60*time.Millisecond))
		})
	}
}

func TestSeedsAloneAreEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		there := start(t, &n, at("10.1.0.3", 0), "10.1.0.3/32", secret("net"))
		here := startWith(t, &n, at("10.2.0.5", 0), "10.2.0.0/28", func(c *discovery.Config) {
			c.Subnets = nil
			c.Seeds = []discovery.Seed{{Host: "10.1.0.3"}}
		})
		<-here.Converged()
		requireFound(t, here, there)
		there.stop()
		after(time.Hour)
		here.forget()
		there = start(t, &n, at("10.1.0.3", 0), "10.1.0.3/32", secret("net"))
		after(6 * time.Second)
		requireFound(t, here, there)
	})
}
