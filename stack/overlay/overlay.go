package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// ErrNotLinked is returned when there is no link to a node, and none comes about.
// Nothing was sent then.
var ErrNotLinked = errors.New("overlay: no link to this node")

// Config is what an Overlay works with.
type Config struct {
	Transport *link.Transport // If nil, alone (developer mode): no peers, ever
	Self      link.ID         // this node; that of Transport, where there is one
	Log       *slog.Logger    // If nil, nothing is logged
}

// Handler gets what comes from the overlay. Message and Stream are called by the
// readers of links, concurrently; View, Lost and Returned by the overlay's loop, one at a
// time. None may block; all may call any method of the Overlay that does not wait.
type Handler interface {
	// Message is a message of a peer, valid until return. An error means that the peer
	// broke the protocol: its link is closed, and it is left alone for a while.
	Message(t *link.Turn, from link.ID, msg []byte) error
	// Stream is a stream that a peer opened. It returns who gets what comes on it;
	// nil refuses it.
	Stream(from link.ID, s *link.Stream) link.StreamHandler
	// View tells the REMOTE member nodes of a watched group (never this node
	// itself), sorted by id, after Watch and on every change. whole: these are all of
	// them. Otherwise the group is large, and members are some hundred of it around this
	// node's id: in the order of ids, taken as a ring, the 16 before it and the 16 behind
	// it, and beyond them the first at or behind each of the points self + 2^j*(4+m)/4, m
	// being 0 to 3. members is the handler's to keep. One may still come while Unwatch is
	// being called.
	View(g Key, members []Member, whole bool)
	// Lost tells that the link to a peer is gone: what was in flight to it may or
	// may not have arrived. Views without it come first. Links that nobody used are lost
	// as well; nothing was in flight then.
	Lost(peer link.ID)
	// Returned gives back a message that Send took for a node without a link, when no
	// link came about: provably it was not sent. msg is the handler's to keep.
	Returned(to link.ID, msg []byte)
	// Using tells whether something is in flight to or from a peer, so that the link
	// must stay. It is called by the overlay's loop.
	Using(peer link.ID) bool
}

// Overlay is this node's place in the network. All methods are safe for
// concurrent use.
type Overlay struct {
	log        *slog.Logger
	carrier    carrier // nil when alone
	handler    Handler // set by Run
	mail       mailbox
	links      links
	candidates chan offered
	events     chan event    // from links and dials; senders wait while it is full, the loop never sends
	stopped    chan struct{} // closed when nobody receives events any more
	queries    chan chan<- []GroupInfo

	// owned by loop
	core    *core
	batches map[uint64][]chan struct{} // announcements that are not confirmed
	batch   uint64                     // number of the last of them
	again   []event                    // that follow from effects
	settle  []chan struct{}            // of those who wait for settled
}

// A carrier carries links. It is the *link.Transport outside tests.
type carrier interface {
	// Run serves links until ctx is done and reports them to o.
	Run(ctx context.Context, o *Overlay) error
	// Dial returns when the link to id is up or could not be made.
	Dial(ctx context.Context, id link.ID, addr netip.AddrPort) error
}

// New checks cfg. It starts nothing: calls before Run take effect when it runs.
func New(cfg Config) (*Overlay, error) {
	if cfg.Transport == nil {
		return newOverlay(cfg, nil), nil
	}
	if cfg.Self != cfg.Transport.ID() {
		return nil, fmt.Errorf("overlay: node %s is given the transport of %s", cfg.Self, cfg.Transport.ID())
	}
	return newOverlay(cfg, transport{cfg.Transport}), nil
}

func newOverlay(cfg Config, carrier carrier) *Overlay {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	o := &Overlay{
		log:        cfg.Log,
		carrier:    carrier,
		candidates: make(chan offered, maxOffers),
		events:     make(chan event, maxEvents),
		stopped:    make(chan struct{}),
		queries:    make(chan chan<- []GroupInfo),
		core:       newCore(cfg.Self),
		batches:    map[uint64][]chan struct{}{},
	}
	o.mail.init()
	o.links.init()
	return o
}

// Candidate offers an address where a node may be, as often as it is seen there.
// It never blocks: while more than 1,024 offers wait, further ones are dropped.
func (o *Overlay) Candidate(id link.ID, addr netip.AddrPort) {
	if o.carrier == nil {
		return
	}
	select {
	case o.candidates <- offered{id, addr}:
	default:
	}
}

// Settled returns a channel that is closed as soon as Run runs and, of all
// candidates known at the time of the call and since, none waits for its first
// dial, and every peer has told all its records; also when Run ends. Alone, that
// is at once when Run runs. A new call asks anew.
func (o *Overlay) Settled() <-chan struct{} { return o.mail.settled() }

// Peers lists the nodes that have a link to this one, sorted by id.
func (o *Overlay) Peers() []Peer { return o.links.list() }

// Announce sets how many members of g this node hosts (0 or less: none any more).
// The channel is closed when the nodes that keep g have confirmed that it, or a later
// number, is in the views of everybody who watches g, or those are gone; also when Run
// ends. It never blocks; what is announced again before it could be told
// replaces what was announced before. A group whose name is too long cannot be
// told, which is logged; its channel is closed.
func (o *Overlay) Announce(g Group, count int) <-chan struct{} {
	if len(g.Name) > maxName {
		o.log.Error("a group cannot be announced: its name is too long", "bytes", len(g.Name), "limit", maxName)
		refused := make(chan struct{})
		close(refused)
		return refused
	}
	return o.mail.announce(g, count)
}

// Watch asks for views of g. Watching twice is watching once, but the view is told
// again. The first View comes soon, also for an empty group, and for one whose name is
// too long to have members. It never blocks.
func (o *Overlay) Watch(g Group) { o.mail.wish(g, true) }

// Unwatch ends the views of g. It never blocks.
func (o *Overlay) Unwatch(g Group) { o.mail.wish(g, false) }

// Send sends head+body to a node as one message, FIFO per flow, flushed at the
// end of t. If there is no link to it, the message waits for one (1 MiB of them for a node,
// 64 MiB for all) or comes back, see Handler.Returned. An error means that provably nothing
// was sent: ErrNotLinked, where this node is alone, or link.ErrFull, link.ErrTooLarge,
// link.ErrClosed. It never blocks.
func (o *Overlay) Send(t *link.Turn, to link.ID, flow uint64, head, body []byte) error {
	if l := o.links.direct(to); l != nil {
		return l.conn.Send(t, flow, head, body)
	}
	if o.carrier == nil {
		return ErrNotLinked
	}
	return o.sendLater(t, to, flow, head, body)
}

// AwaitRoom waits until there is a link to a node, and the lane of flow is at most half
// full; see link.Conn. The error is ErrNotLinked, link.ErrClosed or that of ctx. A Handler
// may not call it.
func (o *Overlay) AwaitRoom(ctx context.Context, to link.ID, flow uint64) error {
	l, err := o.reachable(ctx, to)
	if err != nil {
		return err
	}
	return l.conn.AwaitRoom(ctx, flow)
}

// OpenStream opens a stream to a node, to which it waits for a link if there is none;
// see link.Conn. h gets what comes on it. An error means that the node knows nothing of
// it: ErrNotLinked, or that of the link or of ctx. A Handler may not call it.
func (o *Overlay) OpenStream(ctx context.Context, to link.ID, h link.StreamHandler) (*link.Stream, error) {
	l, err := o.reachable(ctx, to)
	if err != nil {
		return nil, err
	}
	return l.conn.OpenStream(ctx, h)
}

// reachable is the link to a node, for which it waits if there is none.
func (o *Overlay) reachable(ctx context.Context, to link.ID) (*linked, error) {
	l := o.links.direct(to)
	if l == nil && o.carrier != nil {
		var err error
		if l, err = o.awaitLink(ctx, to); err != nil {
			return nil, err
		}
	}
	if l == nil {
		return nil, ErrNotLinked
	}
	return l, nil
}

// Peer is a node with a link to this one.
type Peer struct {
	ID   link.ID
	Addr netip.AddrPort
	RTT  time.Duration // smoothed round trip
}
