package overlay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A core is the overlay's protocol: whom a node knows and is linked to, what it
// has to do with which groups, and what it keeps of them for others. It does no I/O
// and reads no clock; step drives it. Owned by whoever calls step.
type core struct {
	self link.ID
	rng  *rand.Rand
	now  time.Time // of the current step
	out  []effect  // of the current step

	peers     []*peer // sorted by id
	links     map[uint64]*peer
	table     []*contact // whom this node knows, by their distance
	contacts  map[link.ID]*contact
	dialling  int        // dials under way
	strangers []*contact // that were offered; some are strangers no longer
	vetted    time.Time  // when one was last looked up
	dialAt    time.Time  // no dial is due before
	ticked    time.Time  // last tick; the first step counts
	agenda    []due      // peers that are to be looked at, latest first
	reviewed  time.Time  // last review
	stale     bool       // somebody came or went since then
	leaving   bool

	lookups   []*lookup
	queries   map[uint32]query // that wait for an answer
	nonce     uint32           // of the last of them
	joining   bool             // this node's own id is being looked up
	joined    time.Time        // when that began
	asked     time.Time        // when a peer was last asked for neighbours
	refreshed map[int]time.Time

	groups  map[Key]*group
	version uint64 // of the last stance
	lapses  lapses
	down    map[link.ID]time.Time // nodes that are not shown in views

	owing       []*peer // whose outboxes are flushed at the end of the step
	late        []latePromises
	unconfirmed int // batches
	settling    bool
}

// A peer is a node with a link to this one.
type peer struct {
	id      link.ID
	contact *contact
	link    uint64    // number of the link
	watchAt time.Time // when it is looked at

	since    time.Time // when the link came up
	heard    time.Time // last sign of life
	pinged   time.Time // first ping that nothing was heard since; zero: none
	repinged int       // how often since then
	lossy    bool      // much is lost on the way to it: silence says less
	spoke    time.Time // last control message
	asked    time.Time // first ping that none came since; zero: none
	sequence uint64    // of the last ping
	used     time.Time // last message of the layers above
	needed   bool      // as of the last review
	offered  time.Time // when this node offered to give the link up
	greeted  bool      // it has told whom it knows near this node
	left     bool      // it is about to end

	outbox outbox
	told   groupSet // groups whose stance this node tells it
	tells  groupSet // groups whose stance it tells this node
	keeps  groupSet // groups that both keep
	hosts  groupSet // those of them that it is a member of, which it tells nobody but itself
}

// An event is something that happens to the core.
type event interface {
	apply(c *core)
}

// An effect is something that the core wants done. Effects are carried out in
// the order in which step returns them.
type effect interface {
	isEffect()
}

type (
	// dial: link to id at addr; a dialled event must follow.
	dial struct {
		id   link.ID
		addr netip.AddrPort
	}
	// sendControl: send a control message on a link.
	sendControl struct {
		link uint64
		msg  []byte
	}
	// closeLink: end a link, of which the core knows nothing any more.
	closeLink struct {
		link uint64
		why  closing
	}
	// offerLink: if a link is not in use, use it no longer and send a release; else a
	// used event must follow.
	offerLink struct{ link uint64 }
	// giveUpLink: if a link is not in use, close it as idle; else send a keep and
	// a used event must follow.
	giveUpLink struct{ link uint64 }
	// resumeLink: a link that was offered may be used again.
	resumeLink struct{ link uint64 }
	// pushView: hand a view to the handler.
	pushView struct {
		group   Key
		members []Member
		whole   bool
	}
	// confirmed: everybody who watches shows what was announced as this batch.
	confirmed struct{ batch uint64 }
	// reached: a node that was to be reached has a link, or none came about.
	reached struct {
		id link.ID
		ok bool
	}
	// lost: tell the handler that the link to a peer is gone.
	lost struct{ peer link.ID }
	// settled: tell those who wait that this node has found its place.
	settled struct{}
)

func (dial) isEffect()        {}
func (sendControl) isEffect() {}
func (closeLink) isEffect()   {}
func (offerLink) isEffect()   {}
func (giveUpLink) isEffect()  {}
func (resumeLink) isEffect()  {}
func (pushView) isEffect()    {}
func (confirmed) isEffect()   {}
func (reached) isEffect()     {}
func (lost) isEffect()        {}
func (settled) isEffect()     {}

// closing is why the core ends a link.
type closing int

const (
	closeSilent   closing = iota // nothing was heard of the peer
	closeProtocol                // the peer broke the protocol
)

// newCore makes the core of the node self. Its random choices follow from self.
func newCore(self link.ID) *core {
	return &core{
		self:      self,
		rng:       rand.New(rand.NewPCG(binary.BigEndian.Uint64(self[:]), binary.BigEndian.Uint64(self[8:]))),
		links:     map[uint64]*peer{},
		contacts:  map[link.ID]*contact{},
		queries:   map[uint32]query{},
		refreshed: map[int]time.Time{},
		groups:    map[Key]*group{},
		down:      map[link.ID]time.Time{},
	}
}

// step applies an event at a time that never goes back, and returns what is to
// be done, in order. The result is the caller's.
func (c *core) step(now time.Time, e event) []effect {
	c.now, c.out = now, nil
	if c.ticked.IsZero() {
		c.ticked = now // ticks are due from here on
	}
	e.apply(c)
	c.flushAll()
	c.dialDue()
	c.checkSettled()
	return c.out
}

func (c *core) emit(e effect) { c.out = append(c.out, e) }

func (c *core) send(p *peer, m message) {
	c.emit(sendControl{p.link, m.appendTo(nil)})
}

// find is the peer with this id and its place among the peers.
func (c *core) find(id link.ID) (int, *peer) {
	i, ok := slices.BinarySearchFunc(c.peers, id, func(p *peer, id link.ID) int { return p.id.Compare(id) })
	if !ok {
		return i, nil
	}
	return i, c.peers[i]
}

// peer is the peer with this id, or nil.
func (c *core) peer(id link.ID) *peer {
	_, p := c.find(id)
	return p
}

// settle asks for a settled effect, now or as soon as it is true.
type settle struct{}

func (settle) apply(c *core) { c.settling = true }

func (c *core) checkSettled() {
	if !c.settling || c.stale || c.joining {
		return
	}
	for _, k := range c.table {
		if k.wanted && !k.tried && k.peer == nil || k.peer != nil && !k.peer.greeted {
			return
		}
	}
	c.settling = false
	c.emit(settled{})
}
