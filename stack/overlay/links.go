package overlay

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// A conn is a link. It is a *link.Conn outside tests, whose comments hold.
type conn interface {
	Peer() link.ID
	Addr() netip.AddrPort
	RTT() time.Duration
	Packets() link.Packets
	SendControl(msg []byte) error
	Send(t *link.Turn, flow uint64, head, body []byte) error
	AwaitRoom(ctx context.Context, flow uint64) error
	Sync(ctx context.Context) error
	OpenStream(ctx context.Context, h link.StreamHandler) (*link.Stream, error)
	Close(reason link.Reason)
}

// links are the links that are up. Senders look them up without a lock.
type links struct {
	current atomic.Pointer[map[link.ID]*linked] // never changed, but replaced

	mu       sync.Mutex // guards the fields below and the replacing of current
	byConn   map[conn]*linked
	byNumber map[uint64]*linked
	queues   map[link.ID]*queue // to nodes without a link, or with one that is held
	queued   int                // bytes in them
	last     uint64             // number given
}

// A linked is a link with what the overlay notes about it.
type linked struct {
	conn   conn
	number uint64
	known  atomic.Bool // to the core
	used   atomic.Bool // by messages, since the last tick
	held   atomic.Bool // nothing is sent on it for now, but queued
	// Of the loop: packets up to the last tick, and when loss was last judged.
	packets, judged link.Packets
	lossy           time.Time // when it was last found that much is lost
}

func (ls *links) init() {
	ls.current.Store(&map[link.ID]*linked{})
	ls.byConn = map[conn]*linked{}
	ls.byNumber = map[uint64]*linked{}
	ls.queues = map[link.ID]*queue{}
}

// to is the link to a peer, or nil.
func (ls *links) to(id link.ID) *linked { return (*ls.current.Load())[id] }

// of is the entry of a link that is the current one to its peer, or nil.
func (ls *links) of(c conn) *linked {
	if l := ls.to(c.Peer()); l != nil && l.conn == c {
		return l
	}
	return nil
}

func (ls *links) numbered(number uint64) *linked {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.byNumber[number]
}

func (ls *links) add(c conn) *linked {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.last++
	l := &linked{conn: c, number: ls.last}
	l.held.Store(ls.queues[c.Peer()] != nil) // what waits goes first
	ls.byConn[c] = l
	ls.byNumber[l.number] = l
	ls.replace(func(m map[link.ID]*linked) { m[c.Peer()] = l })
	return l
}

// remove forgets a link that is down. It returns its entry, or nil.
func (ls *links) remove(c conn) *linked {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.byConn[c]
	if l == nil {
		return nil
	}
	delete(ls.byConn, c)
	delete(ls.byNumber, l.number)
	ls.hideLocked(l)
	return l
}

// hide takes a link away from senders that is going to be down.
func (ls *links) hide(l *linked) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.hideLocked(l)
}

func (ls *links) hideLocked(l *linked) {
	if id := l.conn.Peer(); ls.to(id) == l {
		ls.replace(func(m map[link.ID]*linked) { delete(m, id) })
	}
}

// replace changes a copy of current and makes it current. mu is held.
func (ls *links) replace(change func(map[link.ID]*linked)) {
	m := maps.Clone(*ls.current.Load())
	change(m)
	ls.current.Store(&m)
}

// heard lists what came on links since it was asked last.
func (ls *links) heard(at time.Time) []alive {
	var all []alive
	for _, l := range *ls.current.Load() {
		used := l.used.Swap(false)
		now := l.conn.Packets()
		if now.Received != l.packets.Received || used {
			all = append(all, alive{l.number, used, l.loses(at, now)})
		}
		l.packets = now
	}
	return all
}

const (
	judgeAfter = 32               // packets sent
	lossyFrom  = 20               // one in so many is lost
	lossyFor   = 10 * time.Second // since it was: QUIC learns late, or not at all, of some losses
)

// loses tells whether much was lost lately on the way to the peer.
func (l *linked) loses(at time.Time, now link.Packets) bool {
	if sent := now.Sent - l.judged.Sent; sent >= judgeAfter {
		if now.Lost > l.judged.Lost && (now.Lost-l.judged.Lost)*lossyFrom >= sent {
			l.lossy = at
		}
		l.judged = now
	}
	return !l.lossy.IsZero() && at.Sub(l.lossy) < lossyFor
}

// list lists the peers that the core knows, sorted by id.
func (ls *links) list() []Peer {
	var peers []Peer
	for id, l := range *ls.current.Load() {
		if l.known.Load() {
			peers = append(peers, Peer{id, l.conn.Addr(), l.conn.RTT()})
		}
	}
	slices.SortFunc(peers, func(a, b Peer) int { return a.ID.Compare(b.ID) })
	return peers
}

// up, down, control, message and stream are what happens on links. The first three may
// wait for the loop, which never waits for a link.

func (o *Overlay) up(c conn) {
	l := o.links.add(c)
	o.post(linkUp{l.number, c.Peer(), c.Addr()})
}

func (o *Overlay) down(c conn, err error) {
	o.log.Debug("link is down", "peer", c.Peer(), "err", err)
	if l := o.links.remove(c); l != nil {
		o.post(linkDown{l.number, errors.Is(err, link.ReasonIdle)})
	}
}

func (o *Overlay) control(c conn, msg []byte) {
	l := o.links.of(c)
	if l == nil {
		return
	}
	if len(msg) > maxControl {
		msg = nil // malformed as well, and need not be copied
	}
	o.post(control{l.number, slices.Clone(msg)})
}

func (o *Overlay) message(t *link.Turn, c conn, msg []byte) {
	l := o.links.of(c)
	if l == nil {
		return
	}
	l.use()
	if err := o.handler.Message(t, c.Peer(), msg); err != nil {
		o.log.Warn("a peer broke the protocol of the patterns", "peer", c.Peer(), "err", err)
		o.post(broken(l.number))
	}
}

func (o *Overlay) stream(c conn, s *link.Stream) link.StreamHandler {
	l := o.links.of(c)
	if l == nil {
		return nil
	}
	l.use()
	return o.handler.Stream(c.Peer(), s)
}

// use notes that a link is in use.
func (l *linked) use() {
	if !l.used.Load() { // the cache line stays shared while it is set already
		l.used.Store(true)
	}
}

// post hands an event to the loop.
func (o *Overlay) post(e event) {
	select {
	case o.events <- e:
	case <-o.stopped:
	}
}

// transport makes a carrier of a link.Transport.
type transport struct{ *link.Transport }

// Run implements carrier.
func (t transport) Run(ctx context.Context, o *Overlay) error { return t.Transport.Run(ctx, uplink{o}) }

// An uplink hands what a link.Transport reports to the overlay.
type uplink struct{ o *Overlay }

// Up implements link.Handler.
func (u uplink) Up(c *link.Conn) { u.o.up(c) }

// Down implements link.Handler.
func (u uplink) Down(c *link.Conn, err error) { u.o.down(c, err) }

// Control implements link.Handler.
func (u uplink) Control(c *link.Conn, msg []byte) { u.o.control(c, msg) }

// Message implements link.Handler.
func (u uplink) Message(t *link.Turn, c *link.Conn, msg []byte) { u.o.message(t, c, msg) }

// Stream implements link.Handler.
func (u uplink) Stream(c *link.Conn, s *link.Stream) link.StreamHandler { return u.o.stream(c, s) }
