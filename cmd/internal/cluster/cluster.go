// Package cluster runs iris nodes as real processes on loopback addresses, for
// the demo and the end-to-end tests. It starts nodes on 127.0.0.0/8 only, and
// ends only processes that it started.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/project-iris/iris/cmd/internal/node"
	"github.com/project-iris/iris/spec/endpoint"
)

// Config says what network to run.
type Config struct {
	Nodes   int          // how many to start at once; 0 starts none
	Bits    int          // mask length of the network's loopback subnet. If zero, 28: up to 14 nodes
	Binary  string       // path of iris. If empty, the running program
	Args    []string     // put before the options of the node
	Prefix  []string     // command that runs the binary, such as one that enters a network namespace
	Network string       // network name. If empty, "demo"
	Key     string       // key file. If empty, a fresh one
	Subnet  netip.Prefix // within 127.0.0.0/8. If zero, a random one
}

// shutdownLimit bounds how long nodes may take to end in good order.
const shutdownLimit = 15 * time.Second

// A Cluster is a set of node processes of one network.
type Cluster struct {
	Nodes []*Node
	cfg   Config
	dir   string // temporary: key, logs, sockets
}

// Start starts the nodes and waits until each answers at its relay endpoint.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Nodes {
		if _, err := c.Add(i + 1); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	for _, n := range c.Nodes {
		if _, err := n.AwaitStatus(ctx, 20*time.Second, func(node.Status) bool { return true }); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func prepare(cfg Config) (*Cluster, error) {
	if cfg.Bits == 0 {
		cfg.Bits = 28
	}
	if cfg.Network == "" {
		cfg.Network = "demo"
	}
	if cfg.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		cfg.Binary = self
	}
	if !cfg.Subnet.IsValid() {
		cfg.Subnet = RandomSubnet(cfg.Bits)
	}
	if !cfg.Subnet.Addr().IsLoopback() || cfg.Subnet.Bits() < 8 {
		return nil, fmt.Errorf("cluster: %s is not within 127.0.0.0/8", cfg.Subnet)
	}
	dir, err := os.MkdirTemp("", "iris-")
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c := &Cluster{cfg: cfg, dir: dir}
	if c.cfg.Key == "" {
		c.cfg.Key = filepath.Join(dir, "key.pem")
		if err := WriteKey(c.cfg.Key); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return c, nil
}

// RandomSubnet picks a loopback subnet that nobody else is likely to use.
func RandomSubnet(bits int) netip.Prefix {
	n, err := rand.Int(rand.Reader, big.NewInt(60<<16))
	if err != nil {
		panic(err) // never: crypto/rand does not fail
	}
	v := n.Uint64()
	addr := netip.AddrFrom4([4]byte{127, byte(64 + v>>16), byte(v >> 8), byte(v)})
	return netip.PrefixFrom(addr, bits).Masked()
}

// WriteKey makes a network key for a test or a demo.
func WriteKey(file string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("cluster: key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return os.WriteFile(file, block, 0o600)
}

// Close ends all nodes at once and removes what they left.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// AwaitPeers waits until each node sees all others.
func (c *Cluster) AwaitPeers(ctx context.Context, timeout time.Duration) error {
	for _, n := range c.Nodes {
		all := func(s node.Status) bool { return len(s.Peers) == len(c.Nodes)-1 }
		if s, err := n.AwaitStatus(ctx, timeout, all); err != nil {
			return fmt.Errorf("cluster: %s sees %d of %d peers: %w", n.Bind, len(s.Peers), len(c.Nodes)-1, err)
		}
	}
	return nil
}

// Shutdown ends all nodes in good order and removes what they left.
func (c *Cluster) Shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Signal(os.Interrupt))
	}
	for _, n := range c.Nodes {
		_, err := n.Wait(ctx)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, c.Close())...)
}

// Env is what a process needs in its environment to attach over the nodes'
// Unix sockets.
func (c *Cluster) Env() []string { return []string{endpoint.RuntimeDir + "=" + c.dir} }

// Subnet is the loopback subnet that the nodes are on.
func (c *Cluster) Subnet() netip.Prefix { return c.cfg.Subnet }

// Network is the name of the network.
func (c *Cluster) Network() string { return c.cfg.Network }

// Key is the file that holds the network's key.
func (c *Cluster) Key() string { return c.cfg.Key }
