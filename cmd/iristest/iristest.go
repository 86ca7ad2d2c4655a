// Package iristest runs nodes inside a test, so that programs that use the sdk
// can be tested without anything installed:
//
//	conn, err := iris.Connect(iristest.Node(t))
//
// The nodes are real and end with the test. They use loopback addresses only.
package iristest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// patience bounds how long a node may take to be ready or to end.
const patience = 30 * time.Second

// Node runs a node by itself until the test ends, and returns the port to attach
// to once it is ready.
func Node(tb testing.TB) int {
	tb.Helper()
	return run(tb, node.Config{Dev: true})
}

// Network runs a network of some nodes (1 to 14) until the test ends, and returns
// the ports to attach to once all of them see each other.
func Network(tb testing.TB, nodes int) []int {
	tb.Helper()
	if nodes < 1 || nodes > 14 {
		tb.Fatalf("iristest: a network of %d nodes: 1 to 14 are possible", nodes)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatalf("iristest: key: %v", err)
	}
	subnet := cluster.RandomSubnet(28)
	addr := subnet.Addr()
	var ports []int
	for range nodes {
		addr = addr.Next()
		ports = append(ports, run(tb, node.Config{
			Network: "iristest",
			Keys:    []*rsa.PrivateKey{key},
			Bind:    netip.PrefixFrom(addr, subnet.Bits()),
		}))
	}
	return ports
}

// run runs one node; each is ready when it sees those that were before.
func run(tb testing.TB, cfg node.Config) int {
	tb.Helper()
	var err error
	if cfg.Port, err = cluster.FreePort(); err != nil {
		tb.Fatalf("iristest: %v", err)
	}
	n, err := node.New(cfg)
	if err != nil {
		tb.Fatalf("iristest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				tb.Errorf("iristest: %v", err)
			}
		case <-time.After(patience):
			tb.Errorf("iristest: a node did not end within %v", patience)
		}
	})
	select {
	case <-n.Ready():
	case err := <-ended:
		ended <- nil
		tb.Fatalf("iristest: %v", err)
	case <-time.After(patience):
		tb.Fatalf("iristest: a node was not ready within %v", patience)
	}
	return cfg.Port
}
