// Package linktest makes networks of link.Transports in memory, for the tests of
// the layers above. Real QUIC runs over a simulated network whose latency is set
// and whose paths can be cut. Inside a testing/synctest bubble all of it happens
// in virtual time:
//
//	synctest.Test(t, func(t *testing.T) {
//		net := linktest.New(t, 3, linktest.Options{Latency: time.Millisecond})
//		net.Run(0, handler) // and so on for 1 and 2
//		err := net.Transports[0].Dial(t.Context(), net.Transports[1].ID(), net.Addr(1))
//		…
//	})
//
// What New starts ends with the test.
package linktest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/project-iris/iris/stack/link"
)

// mtu is what the simulated network carries, in bytes of UDP payload.
const mtu = 1500

// Name is the name of the network that New makes.
const Name = "linktest"

// generated makes the key of the test binary at first use: it takes 0.1 s.
var generated = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// Key is an RSA key of 2048 bits, the same for all tests of a binary.
func Key(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := generated()
	if err != nil {
		tb.Fatalf("linktest: make an RSA key: %v", err)
	}
	return key
}

// Options of a network. Zero works.
type Options struct {
	Latency    time.Duration // one way, between any two nodes
	MaxMessage int           // of link.Config
	Log        *slog.Logger  // of every Transport
}

// Network is a number of Transports that share a network's key, on a simulated
// network. Run, Stop and Add belong to the test's goroutine.
type Network struct {
	Transports []*link.Transport
	Paths      *Paths // how datagrams travel

	tb      testing.TB
	options Options
	wg      sync.WaitGroup // of Run
	stops   map[int]context.CancelFunc
	closers []func() error // of sockets and their access links
}

// New makes n Transports. Each must be Run to accept or dial.
func New(tb testing.TB, n int, o Options) *Network {
	tb.Helper()
	net := &Network{Paths: newPaths(), tb: tb, options: o, stops: make(map[int]context.CancelFunc)}
	tb.Cleanup(net.close)
	for range n {
		net.Add(NetworkOf(tb, Name, Key(tb)))
	}
	return net
}

// NetworkOf is link.NewNetwork that fails the test.
func NetworkOf(tb testing.TB, name string, keys ...*rsa.PrivateKey) *link.Network {
	tb.Helper()
	network, err := link.NewNetwork(name, keys...)
	if err != nil {
		tb.Fatalf("linktest: %v", err)
	}
	return network
}

// Add makes one more Transport, of any network, and returns its index.
func (n *Network) Add(network *link.Network) int {
	n.tb.Helper()
	i := len(n.Transports)
	t, err := link.New(link.Config{Network: network, Socket: n.Socket(n.Addr(i)), MaxMessage: n.options.MaxMessage, Log: n.options.Log})
	if err != nil {
		n.tb.Fatalf("linktest: %v", err)
	}
	n.Transports = append(n.Transports, t)
	return i
}

// Socket makes a socket on the simulated network. The address must be free, or
// its old socket closed.
func (n *Network) Socket(addr netip.AddrPort) net.PacketConn {
	udp := net.UDPAddrFromAddrPort(addr)
	access := &simnet.SimulatedLink{
		UplinkSettings:   simnet.LinkSettings{MTU: mtu},
		DownlinkSettings: simnet.LinkSettings{MTU: mtu},
		Latency:          n.options.Latency,
		UploadPacket:     n.Paths,
	}
	socket := simnet.NewBlockingSimConn(udp, access)
	n.Paths.AddNode(udp, access)
	access.Start()
	n.closers = append(n.closers, socket.Close, access.Close)
	return socket
}

// Addr is where node i listens: 10.0.0.1:4000 and so on.
func (n *Network) Addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte((i + 1) >> 8), byte(i + 1)}), 4000)
}

// Run runs Transport i in the background until Stop or the end of the test.
func (n *Network) Run(i int, h link.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	n.stops[i] = cancel
	n.wg.Go(func() {
		if err := n.Transports[i].Run(ctx, h); err != nil {
			n.tb.Errorf("linktest: node %d: %v", i, err)
		}
	})
}

// Stop ends Run of node i in good order. It does not wait.
func (n *Network) Stop(i int) { n.stops[i]() }

func (n *Network) close() {
	for _, stop := range n.stops {
		stop()
	}
	n.wg.Wait()
	for _, t := range n.Transports {
		if err := t.Close(); err != nil {
			n.tb.Errorf("linktest: %v", err)
		}
	}
	for _, c := range n.closers {
		if err := c(); err != nil {
			n.tb.Errorf("linktest: %v", err)
		}
	}
}
