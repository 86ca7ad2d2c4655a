package patterns

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// Overlay is what the patterns need from below; Over makes one of
// *overlay.Overlay, that of patternstest is another. Its comments state the obligations.
type Overlay interface {
	Announce(g overlay.Group, count int) <-chan struct{}
	Watch(g overlay.Group)
	Unwatch(g overlay.Group)
	Send(t *link.Turn, to link.ID, flow uint64, head, body []byte) error
	AwaitRoom(ctx context.Context, to link.ID, flow uint64) error
	// OpenStream may block for a dial. Over adapts that of package overlay.
	OpenStream(ctx context.Context, to link.ID, h link.StreamHandler) (Stream, error)
}

// Config is what a Node needs to know.
type Config struct {
	Self    link.ID
	Overlay Overlay
	Log     *slog.Logger // if nil, nothing is logged
	Limit   int          // requests in flight at most; beyond, they end as overloaded. If zero, 1<<20, which is the most
	Seed    uint64       // for choosing members. If zero, a random one
}

// A Node is the patterns of one node: it sends the requests of its sessions and
// of other nodes on their way. It is an overlay.Handler.
type Node struct {
	self       link.ID
	overlay    Overlay
	log        *slog.Logger
	epoch      time.Time // what all times count from
	maxWatched int
	wake       chan struct{} // capacity 1: Run has something to do
	quiet      chan struct{} // capacity 1: running may have become zero
	running    atomic.Int64  // requests at sessions, until their outcome is handed on; and ends of tunnels
	heads      sync.Pool     // *[]byte, for the heads of messages
	dropped    drops
	slowNodes  atomic.Int64   // how many slow holds
	dials      sync.WaitGroup // goroutines that open streams; added to with the lock, while Run is not over

	mu          sync.Mutex // guards the fields below, and everything in them
	rng         *rand.Rand
	slab        slab
	wheel       wheel
	groups      map[string]*group // clusters
	topics      map[string]*group
	keys        map[overlay.Key]*group
	watched     *list.List // of *group, last used first
	changed     []*group   // that the overlay has to be told about; the first change first
	parkedBytes int
	joins       uint64              // numbers what group.joined holds
	keepers     map[*group]struct{} // that keep messages
	keptBytes   int                 // of them all
	flows       flows
	slow        map[link.ID]bool // nobody waits for room on the links to these nodes
	peers       map[link.ID]*party
	ports       uint32 // attached so far
	owed        []debt
	draining    bool
	ended       bool // Run is over
	tunnels     tunnelTable
}

var _ overlay.Handler = (*Node)(nil)

// New checks cfg. It starts nothing.
func New(cfg Config) (*Node, error) {
	const most = 1 << indexBits
	switch {
	case cfg.Overlay == nil:
		return nil, errors.New("patterns: Config.Overlay is missing")
	case cfg.Limit < 0 || cfg.Limit > most:
		return nil, fmt.Errorf("patterns: Config.Limit is %d: want 1 to %d, or 0 for the most", cfg.Limit, most)
	case cfg.Limit == 0:
		cfg.Limit = most
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	return &Node{
		self:       cfg.Self,
		overlay:    cfg.Overlay,
		log:        cfg.Log,
		epoch:      time.Now(),
		maxWatched: maxWatched,
		wake:       make(chan struct{}, 1),
		quiet:      make(chan struct{}, 1),
		heads:      sync.Pool{New: func() any { return new([]byte) }},
		rng:        rand.New(rand.NewPCG(cfg.Seed, cfg.Seed)),
		slab:       slab{limit: cfg.Limit},
		wheel:      wheel{armed: never},
		groups:     make(map[string]*group),
		topics:     make(map[string]*group),
		keys:       make(map[overlay.Key]*group),
		keepers:    make(map[*group]struct{}),
		flows:      newFlows(),
		slow:       make(map[link.ID]bool),
		watched:    list.New(),
		peers:      make(map[link.ID]*party),
		tunnels:    tunnelTable{dialing: make(map[*opening]context.CancelFunc), legs: make(map[link.ID]int)},
	}, nil
}

// now is the time since the epoch.
func (n *Node) now() time.Duration { return time.Since(n.epoch) }

// during is a time within a turn, for what a turn more or less does not matter to.
func (n *Node) during(t *link.Turn) time.Duration { return t.Time().Sub(n.epoch) }

// kick has Run look around. It never blocks.
func (n *Node) kick() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// peer yields the party of another node, new if need be.
func (n *Node) peer(id link.ID) *party {
	p := n.peers[id]
	if p == nil {
		p = &party{node: id, asked: make(map[uint64]*entry)}
		n.peers[id] = p
	}
	return p
}

// Dropped counts what was received and dropped, by reason: "malformed"
// messages, a "copy" of a request, broadcast or event, and what refers to "unknown" requests, most
// of them ended before; what a link had no room for, or came to nobody who could be reached ("unsent"), be it an outcome
// or the copy of a broadcast or event for one node, also if that went around it; and each "event" and "broadcast" that a
// session of this node had no credit for.
func (n *Node) Dropped() map[string]uint64 {
	return map[string]uint64{
		"malformed": n.dropped.malformed.Load(),
		"copy":      n.dropped.copies.Load(),
		"unknown":   n.dropped.unknown.Load(),
		"unsent":    n.dropped.unsent.Load(),
		"event":     n.dropped.events.Load(),
		"broadcast": n.dropped.broadcasts.Load(),
	}
}

type drops struct{ malformed, copies, unknown, unsent, events, broadcasts atomic.Uint64 }
