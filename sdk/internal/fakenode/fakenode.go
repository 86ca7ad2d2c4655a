// Package fakenode is an iris node without a network, for tests and examples:
// programs attach to it over the relay protocol, clusters are what they
// register, requests and tunnels go to the members in turn, and topics reach all. It keeps the protocol's
// rules and can be told to break some. Safe for concurrent use.
package fakenode

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// A Config says how the node behaves. The zero Config is a well-behaved node.
type Config struct {
	Limits     wire.Limits // if zero, the defaults
	NoTimeouts bool        // deadlines are left to the other side
	NoDone     bool        // the outcome of a subscribe is not told

	Opened  wire.Headers // what an opened carries, as if the service had sent them
	Refusal string       // if not empty, tunnels are refused with it, as if by a service
}

// A Node is a fake node. New makes one.
type Node struct {
	cfg Config
	wg  sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	down     bool       // dials fail
	refuse   wire.Code  // what hellos are answered with; CodeOK: a welcome
	leaving  bool
	sessions map[*session]bool
	clusters map[string][]*session // members in the order of their turn
	topics   map[string][]*session // subscribers
	hellos   map[string]int        // by cluster
	pongs    int
	dropped  int // messages for want of credit

	subscribes int

	more     bool              // push leaves flushing to flushLocked
	touched  map[*session]bool // for flushLocked
	byes     []wire.Code       // that programs said
	lastID   uint64
	scratch  []byte              // for push
	relayed  map[uint64]*request // by the id that the service was given
	listener []net.Listener
}

// A request is on its way to a member and back.
type request struct {
	id       uint64 // that the service was given
	from, to *session
	fromID   uint64
	timer    *time.Timer
}

// New makes a node. Close ends it.
func New(cfg Config) *Node {
	if cfg.Limits == (wire.Limits{}) {
		cfg.Limits = wire.DefaultLimits()
	}
	return &Node{
		cfg:      cfg,
		sessions: make(map[*session]bool),
		clusters: make(map[string][]*session),
		touched:  make(map[*session]bool),
		topics:   make(map[string][]*session),
		hellos:   make(map[string]int),
		relayed:  make(map[uint64]*request),
	}
}

var errDown = errors.New("fakenode: connection refused")

// Dial attaches in memory: for iris.WithDialer.
func (n *Node) Dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	if !n.serve(far) {
		_, _ = near.Close(), far.Close()
		return nil, errDown
	}
	return near, nil
}

// Listen serves a Unix socket at path until Close.
func (n *Node) Listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.listener = append(n.listener, l)
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if !n.serve(conn) {
				_ = conn.Close()
			}
		}
	})
	return nil
}

// Kill drops all connections without a word; dials fail until Start.
func (n *Node) Kill() {
	n.mu.Lock()
	n.down = true
	n.mu.Unlock()
	n.Drop()
}

// Start lets programs attach again after Kill or Leave.
func (n *Node) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.leaving = false, false
}

// Drop drops all connections without a word.
func (n *Node) Drop() {
	for _, s := range n.all() {
		_ = s.conn.Close()
	}
}

// Leave announces that the node is leaving: new requests are turned away, and a
// connection is closed once it has no unanswered request. Dials fail until Start.
func (n *Node) Leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.leaving = true, true
	for s := range n.sessions {
		s.push(wire.AppendLeaving)
		s.settleLocked()
	}
}

// Inject writes bytes to every attached program.
func (n *Node) Inject(frames []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.sessions {
		s.push(func(b []byte) []byte { return append(b, frames...) })
	}
}

// Refuse answers all later hellos with a refusal of code; CodeOK ends that.
func (n *Node) Refuse(code wire.Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = code
}

// Hellos counts the hellos for a cluster; of clients, under "".
func (n *Node) Hellos(cluster string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hellos[cluster]
}

// Members counts the members of a cluster.
func (n *Node) Members(cluster string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.clusters[cluster])
}

// Pongs counts the answers to pings.
func (n *Node) Pongs() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pongs
}

// Byes lists the codes that programs said bye with.
func (n *Node) Byes() []wire.Code {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.byes)
}

// Attached counts the attached programs.
func (n *Node) Attached() int { return len(n.all()) }

// Close drops everything and waits.
func (n *Node) Close() {
	n.Kill()
	n.mu.Lock()
	for _, l := range n.listener {
		_ = l.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

func (n *Node) all() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*session
	for s := range n.sessions {
		all = append(all, s)
	}
	return all
}

// serve starts a session unless the node is down.
func (n *Node) serve(conn net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return false
	}
	s := &session{
		node: n,
		conn: conn,
		in:   wire.NewReader(conn, n.cfg.Limits.Frame),
		out:  wire.NewOutput(conn, 64<<20),

		given:   make(map[uint64]bool),
		tunnels: make(map[uint64]*end),
	}
	n.sessions[s] = true
	n.wg.Go(s.run)
	return true
}
