// Package patternstest connects nodes of package patterns in memory: a fake of
// the overlay with groups, views, kills, delays and sends that are refused.
//
// A message is delivered by the goroutine that ends the turn, or after a delay;
// views and losses by Network.Run, as the overlay's loop would.
package patternstest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

// ErrNotLinked is what a send to a node returns that is not (any more) there.
var ErrNotLinked = errors.New("patternstest: not linked")

// A Network is a set of nodes, each linked to each. Safe for concurrent use.
type Network struct {
	// Delay of a message. Set it before the first Join.
	Delay time.Duration
	// Refuse, if set, is asked for each send; an error refuses it. Set it before the first Join.
	Refuse func(from, to link.ID) error
	// Drop, if set, is asked for each message that arrives; it is lost if true. Set it before the first Join.
	Drop func(from, to link.ID) bool

	wake chan struct{}

	mu      sync.Mutex // guards the fields below, and those of the nodes
	nodes   map[link.ID]*Overlay
	events  []func() // for Run, in their order
	streams map[*stream]bool
}

// New makes a network without nodes.
func New() *Network {
	return &Network{wake: make(chan struct{}, 1), nodes: make(map[link.ID]*Overlay), streams: make(map[*stream]bool)}
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
		w.push(key)
	}
	w.cut(id)
	for _, o := range w.nodes {
		w.enqueue(func() { o.Handler.Lost(id) })
		w.enqueue(func() { dead.Handler.Lost(o.id) })
	}
}

// push has Run tell all watchers the members of a group. The caller holds the lock.
func (w *Network) push(key overlay.Key) {
	for _, o := range w.nodes {
		if o.watches[key] {
			w.pushTo(o, key)
		}
	}
}

func (w *Network) pushTo(to *Overlay, key overlay.Key) {
	var members []overlay.Member
	ids := slices.SortedFunc(maps.Keys(w.nodes), func(a, b link.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if count := w.nodes[id].hosts[key]; count > 0 && id != to.id {
			members = append(members, overlay.Member{Node: id, Count: count})
		}
	}
	w.enqueue(func() { to.Handler.View(key, members) })
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
	o.net.push(key)
	confirmed := make(chan struct{})
	o.net.enqueue(func() { close(confirmed) })
	return confirmed
}

// Watch asks for views.
func (o *Overlay) Watch(g overlay.Key) {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	o.watches[g] = true
	o.net.pushTo(o, g)
}

// Unwatch ends that.
func (o *Overlay) Unwatch(g overlay.Key) {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	delete(o.watches, g)
}

// Watches is how many groups the node watches.
func (o *Overlay) Watches() int {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	return len(o.watches)
}

// Send appends a message to the lane of flow.
func (o *Overlay) Send(t *link.Turn, to link.ID, flow uint64, head, body []byte) error {
	if o.net.Refuse != nil {
		if err := o.net.Refuse(o.id, to); err != nil {
			return err
		}
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
