// Package node composes the layers of Iris into a node: link, discovery,
// overlay, patterns and relay, in the order in which they start and the
// reverse order in which they end.
package node

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/relay"
	"github.com/project-iris/iris/spec/wire"
	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

// Version is the version of the node that status and welcome tell.
const Version = "0.1.0-dev"

// drainLimit bounds how long a node that was told to stop lets requests run.
const drainLimit = 10 * time.Second

// leaveLimit bounds how long it then waits for its peers to know.
const leaveLimit = 3 * time.Second

// Config is what a node needs to know.
type Config struct {
	Dev     bool              // alone: no links, no key, a random network name
	Network string            // name of the network
	Keys    []*rsa.PrivateKey // the first signs, all are accepted; unless KeysIn is set
	KeysIn  KeySource         // where the keys are, now and when they change; may be nil
	Reload  <-chan os.Signal  // each asks for the keys to be read again at once; may be nil
	Port    int               // of the relay endpoint
	Bind    netip.Prefix      // address for other nodes, and the subnet to probe. If zero, all that the host has
	Join    []discovery.Seed  // hosts that nodes are on, wherever they are
	State   string            // file that keeps where peers were. If empty, none
	Log     *slog.Logger
}

// A Node is one node of a network.
type Node struct {
	cfg      Config
	log      *slog.Logger
	network  remote                // zero in developer mode
	where    atomic.Pointer[place] // nil in developer mode
	keys     *keys                 // nil in developer mode
	overlay  *overlay.Overlay
	patterns *patterns.Node
	relay    *relay.Server
	id       link.ID
	began    time.Time
	ready    chan struct{} // closed when the relay endpoint is open
}

// remote is the part of a node that talks to other nodes.
type remote struct {
	transport *link.Transport
	prober    *discovery.Prober
	memory    *memory
}

// New checks cfg, binds the UDP socket and composes the layers. It starts
// nothing; a node that is not Run must be closed by ending the process.
func New(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Log, ready: make(chan struct{})}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dev {
		if _, err := rand.Read(n.id[:]); err != nil {
			return nil, err
		}
		n.cfg.Network = "dev-" + hex.EncodeToString(n.id[:4])
	} else if err := n.connectable(); err != nil {
		return nil, err
	}
	return n, n.compose()
}

// connectable prepares the layers that talk to other nodes.
func (n *Node) connectable() error {
	var network *link.Network
	var err error
	if n.keys, network, err = newKeys(n.cfg, n.log); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.network.memory = newMemory(n.cfg.State, n.log)
	where, err := chooseSubnets(n.cfg.Bind, len(n.cfg.Join)+len(n.network.memory.addrs) > 0)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	socket, err := discovery.Listen(where.listen)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.network.transport, err = link.New(link.Config{Network: network, Socket: socket, Log: n.log})
	if err != nil {
		return errors.Join(fmt.Errorf("node: %w", err), socket.Close())
	}
	n.id = n.network.transport.ID()
	n.where.Store(&where)
	n.tell(where.looked)
	cfg := discovery.Config{
		Conn:    n.network.transport,
		Secrets: network.Secrets(probeSecret),
		Self:    n.id,
		Mark:    mark(network.Keys()[0]),
		Reach:   where.reach(),
		Exclude: n.network.transport.Addr(),
		Last:    n.network.memory.addrs,
		Seeds:   n.cfg.Join,
		Known:   n.knownAddresses,
		Log:     n.log,
	}
	if where.multicast {
		cfg.Calls = discovery.ListenCalls
	}
	if n.network.prober, err = discovery.New(cfg); err != nil {
		return errors.Join(fmt.Errorf("node: %w", err), n.network.transport.Close())
	}
	n.keys.users = n.network
	return nil
}

// compose puts overlay, patterns and relay on top.
func (n *Node) compose() error {
	var err error
	if n.overlay, err = overlay.New(overlay.Config{Transport: n.network.transport, Self: n.id, Log: n.log}); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if n.patterns, err = patterns.New(patterns.Config{Self: n.id, Overlay: patterns.Over(n.overlay), Log: n.log}); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.relay, err = relay.New(relay.Config{
		Network:     &bridge{patterns: n.patterns, self: n.serveSelf},
		Limits:      wire.DefaultLimits(),
		Connections: maxConnections(10_000),
		Info:        map[string]string{"node": n.id.String(), "network": n.cfg.Network, "version": Version},
		Log:         n.log,
	})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

func (n *Node) knownAddresses() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, p := range n.overlay.Peers() {
		addrs = append(addrs, p.Addr)
	}
	return addrs
}

// Run runs the node until ctx is done, then drains it: no new work, what runs
// is finished within a limit, clients and peers are told. It returns nil after
// a drain in which nothing was lost.
func (n *Node) Run(ctx context.Context) error {
	n.began = time.Now()
	// The layers outlive ctx: they are needed for draining.
	layers, stop := context.WithCancel(context.WithoutCancel(ctx))
	failed, fail := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
	}()
	start := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(layers); err != nil && layers.Err() == nil {
				fail(fmt.Errorf("node: %s: %w", name, err))
			}
		})
	}
	start("patterns", n.patterns.Run)
	start("overlay", func(ctx context.Context) error { return n.overlay.Run(ctx, n.patterns) })
	if n.network.prober != nil {
		start("discovery", func(ctx context.Context) error {
			return n.network.prober.Run(ctx, func(id [32]byte, addr netip.AddrPort) { n.overlay.Candidate(id, addr) })
		})
		wg.Go(func() { n.network.memory.run(failed, n.knownAddresses) })
		start("keys", n.keys.watch)
		if !n.cfg.Bind.IsValid() {
			start("interfaces", func(ctx context.Context) error { n.watchInterfaces(ctx, hostNICs); return nil })
		}
	}
	n.log.Info("node started", "node", n.id, "network", n.cfg.Network, "addr", n.address())
	n.awaitConverged(failed)
	if failed.Err() == nil {
		if err := n.openRelay(layers, start); err != nil {
			fail(err)
		}
	}
	<-failed.Done()
	if ctx.Err() == nil {
		return context.Cause(failed)
	}
	return n.drain()
}

// awaitConverged waits until discovery has swept the subnets and the overlay
// knows what its peers know, or ctx is done.
func (n *Node) awaitConverged(ctx context.Context) {
	if n.network.prober != nil {
		select {
		case <-n.network.prober.Converged():
		case <-ctx.Done():
		}
	}
	select {
	case <-n.overlay.Settled():
	case <-ctx.Done():
	}
}

// openRelay lets clients attach.
func (n *Node) openRelay(ctx context.Context, start func(string, func(context.Context) error)) error {
	listeners, warnings, err := relay.Listen(n.cfg.Port)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	for _, w := range warnings {
		n.log.Warn("relay endpoint is not complete", "err", w)
	}
	for _, l := range listeners {
		start("relay", func(ctx context.Context) error { return n.relay.Serve(ctx, l) })
	}
	close(n.ready)
	n.log.Info("ready: clients may attach", "port", n.cfg.Port, "peers", len(n.overlay.Peers()), "after", time.Since(n.began).Round(time.Millisecond))
	return nil
}

// drain ends the node's work in good order. Work that does not end within the limit,
// such as a tunnel that nobody closes, is cut off.
func (n *Node) drain() error {
	n.log.Info("draining: no new work; a second signal ends the node at once")
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	// Together, so that members are withdrawn before the first has waited.
	withdrawn := make(chan error, 1)
	go func() { withdrawn <- n.patterns.Drain(ctx) }()
	unfinished := errors.Join(n.relay.Drain(ctx), <-withdrawn)
	if unfinished != nil {
		n.log.Warn("cutting off what has not ended in time", "limit", drainLimit, "err", unfinished)
	}
	if err := errors.Join(n.relay.Close(), n.leave()); err != nil {
		return fmt.Errorf("node: drain: %w", err)
	}
	n.log.Info("stopped")
	return nil
}

// leave tells the peers, with a time of its own: they are to know at once even
// when something else has used up that of the drain.
func (n *Node) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return n.overlay.Leave(ctx)
}

// Ready is closed once clients may attach.
func (n *Node) Ready() <-chan struct{} { return n.ready }

func (n *Node) address() string {
	if n.network.transport == nil {
		return ""
	}
	return n.network.transport.Addr().String()
}
