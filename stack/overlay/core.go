package overlay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A core is the overlay's protocol: what a node knows of its peers, its own
// records and the views of the groups it watches. It does no I/O and reads no
// clock; step drives it. Owned by whoever calls step.
type core struct {
	self link.ID
	rng  *rand.Rand
	now  time.Time // of the current step
	out  []effect  // of the current step

	peers      []*peer // sorted by id
	candidates map[link.ID]*candidate
	dialling   int       // dials under way
	ticked     time.Time // last tick; the first step counts

	own     map[Group]ownRecord // what this node hosts
	version uint64              // of the last change to own
	waiting []waiter            // announcements that are not confirmed yet, oldest first
	leaving bool

	groups  map[Key]GroupInfo // what the peers host, sorted by node
	watched map[Key]bool

	settling bool // somebody waits for settled
}

// A peer is a node with a link to this one.
type peer struct {
	id   link.ID
	addr netip.AddrPort
	link uint64 // number of the link

	heard    time.Time // last sign of life
	beaten   time.Time // last heartbeat sent
	sequence uint64    // of that
	echo     uint64    // highest sequence of the peer's heartbeats

	outbox   outbox
	records  map[Group]record // what the peer hosts
	received uint64           // messages to be acknowledged
	synced   bool             // the peer's snapshot is complete
	leaving  bool
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
	// pushView: hand a view to the handler.
	pushView struct {
		group   Key
		members []Member
	}
	// confirmed: every peer has what was announced as this batch.
	confirmed struct{ batch uint64 }
	// lost: tell the handler that the link to a peer is gone.
	lost struct{ peer link.ID }
	// settled: tell those who wait that nothing is being dialled and all peers are synced.
	settled struct{}
)

func (dial) isEffect()        {}
func (sendControl) isEffect() {}
func (closeLink) isEffect()   {}
func (pushView) isEffect()    {}
func (confirmed) isEffect()   {}
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
		self:       self,
		rng:        rand.New(rand.NewPCG(binary.BigEndian.Uint64(self[:]), binary.BigEndian.Uint64(self[8:]))),
		candidates: map[link.ID]*candidate{},
		own:        map[Group]ownRecord{},
		groups:     map[Key]GroupInfo{},
		watched:    map[Key]bool{},
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

// onLink is the peer at the other end of a link; nil once the core is done with
// the link.
func (c *core) onLink(number uint64) *peer {
	for _, p := range c.peers {
		if p.link == number {
			return p
		}
	}
	return nil
}

// settle asks for a settled effect, now or as soon as it is true.
type settle struct{}

func (settle) apply(c *core) { c.settling = true }

func (c *core) checkSettled() {
	if !c.settling {
		return
	}
	for _, k := range c.candidates {
		if !k.tried {
			return
		}
	}
	for _, p := range c.peers {
		if !p.synced {
			return
		}
	}
	c.settling = false
	c.emit(settled{})
}
