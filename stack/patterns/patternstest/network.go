// Package patternstest connects nodes of package patterns in memory: a fake of
// the overlay with groups, views, kills, delays, sends that are refused, and nodes
// that cannot be reached.
//
// A message is delivered by the goroutine that ends the turn, or after a delay;
// views, losses and what is returned by Network.Run, as the overlay's loop would.
package patternstest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// ErrNotLinked is what a send to a node returns that is not (any more) there.
var ErrNotLinked = errors.New("patternstest: not linked")

// A Network is a set of nodes. Safe for concurrent use.
type Network struct {
	// Whole is up to how many members, and one, a view has all of them; beyond, it is cut, and nodes are
	// linked only when something is sent, so that what is sent to a node that is gone is returned. If
	// zero, views are whole and each node is linked to each. Set it before the first Join.
	Whole int
	// Delay of a message. Set it before the first Join.
	Delay time.Duration
	// Lag is how long after a change views are told. Set it before the first Join.
	Lag time.Duration
	// Refuse, if set, is asked for each send; an error refuses it. Set it before the first Join.
	Refuse func(from, to link.ID) error
	// Drop, if set, is asked for each message that arrives; it is lost if true. Set it before the first Join.
	Drop func(from, to link.ID) bool
	// Unreachable, if set, is asked for each send and each stream: if true, no link comes about, and the
	// message is returned. It should be the same for both directions. Set it before the first Join.
	Unreachable func(from, to link.ID) bool

	wake chan struct{}

	mu      sync.Mutex // guards the fields below, and those of the nodes
	nodes   map[link.ID]*Overlay
	members map[overlay.Key][]overlay.Member // sorted by id
	events  []func()                         // for Run, in their order
	stale   map[view]bool                    // views that are among the events
	streams map[*stream]bool
}

// New makes a network without nodes.
func New() *Network {
	return &Network{
		wake:    make(chan struct{}, 1),
		nodes:   make(map[link.ID]*Overlay),
		members: make(map[overlay.Key][]overlay.Member),
		stale:   make(map[view]bool),
		streams: make(map[*stream]bool),
	}
}

// Run delivers views and losses until ctx is done.
func (w *Network) Run(ctx context.Context) {
	for {
		w.mu.Lock()
		events := w.events
		w.events = nil
		w.mu.Unlock()
		for _, event := range events {
			event()
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
	}
}

// enqueue has Run do event. The caller holds the lock.
func (w *Network) enqueue(event func()) {
	w.events = append(w.events, event)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// enqueueIn does so after d. The caller holds the lock.
func (w *Network) enqueueIn(d time.Duration, event func()) {
	if d == 0 {
		w.enqueue(event)
		return
	}
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.enqueue(event)
	})
}

// Join adds a node. Its Handler has to be set before anything is sent to it.
func (w *Network) Join(id link.ID) *Overlay {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &Overlay{
		net: w, id: id,
		hosts:   make(map[overlay.Key]int),
		watches: make(map[overlay.Key]bool),
		lanes:   make(map[laneKey]*lane),
	}
	w.nodes[id] = o
	return o
}

// Kill ends a node without warning: what is on its way from and to it is gone.
func (w *Network) Kill(id link.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dead := w.nodes[id]
	delete(w.nodes, id)
	for key := range dead.hosts {
		w.count(key, id, 0)
		w.push(view{group: key})
	}
	w.cut(id)
	for _, o := range w.nodes {
		if w.Whole == 0 || o.linked(id) || dead.linked(o.id) {
			w.enqueue(func() { o.Handler.Lost(id) })
			w.enqueue(func() { dead.Handler.Lost(o.id) })
		}
	}
}

// linked is whether anything was sent to a node.
func (o *Overlay) linked(to link.ID) bool {
	for l := range uint64(lanes) {
		if o.lanes[laneKey{to, l}] != nil {
			return true
		}
	}
	return false
}

// reaches is whether a node can be linked to another one.
func (w *Network) reaches(from, to link.ID) bool {
	if w.Unreachable != nil && w.Unreachable(from, to) {
		return false
	}
	if w.Whole == 0 {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[to] != nil
}

// An Overlay is one node's side of a Network. It implements patterns.Overlay.
type Overlay struct {
	// Handler gets what comes for the node.
	Handler Handler

	net     *Network
	id      link.ID
	hosts   map[overlay.Key]int
	watches map[overlay.Key]bool
	lanes   map[laneKey]*lane
}

// Announce sets how many members the node hosts. It is confirmed when the views
// of it are delivered.
func (o *Overlay) Announce(g overlay.Group, count int) <-chan struct{} {
	key := g.Key()
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	o.hosts[key] = count
	if o.net.nodes[o.id] == o {
		o.net.count(key, o.id, count)
	}
	o.net.push(view{group: key})
	confirmed := make(chan struct{})
	o.net.enqueueIn(o.net.Lag, func() { close(confirmed) })
	return confirmed
}

// Watch asks for views.
func (o *Overlay) Watch(g overlay.Group) {
	key := g.Key()
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	o.watches[key] = true
	o.net.push(view{key, o})
}

// Unwatch ends that.
func (o *Overlay) Unwatch(g overlay.Group) {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	delete(o.watches, g.Key())
}

// Watches is how many groups the node watches.
func (o *Overlay) Watches() int {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	return len(o.watches)
}

// Send appends a message to the lane of flow. One to a node that cannot be reached is returned after the delay.
func (o *Overlay) Send(t *link.Turn, to link.ID, flow uint64, head, body []byte) error {
	if o.net.Refuse != nil {
		if err := o.net.Refuse(o.id, to); err != nil {
			return err
		}
	}
	if !o.net.reaches(o.id, to) {
		msg := slices.Concat(head, body)
		o.net.mu.Lock()
		defer o.net.mu.Unlock()
		o.net.enqueueIn(o.net.Delay, func() { o.Handler.Returned(to, msg) })
		return nil
	}
	l := o.lane(to, flow)
	if l == nil {
		return ErrNotLinked
	}
	l.append(head, body)
	t.Touch(l)
	return nil
}

// AwaitRoom waits until Refuse lets a message pass, or ctx is done.
func (o *Overlay) AwaitRoom(ctx context.Context, to link.ID, _ uint64) error {
	const look = 10 * time.Millisecond
	for o.net.Refuse != nil && o.net.Refuse(o.id, to) != nil {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
