package patternstest

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// lanes is how many message streams there are between two nodes.
const lanes = 4

type laneKey struct {
	to   link.ID
	lane uint64
}

// A lane delivers messages in their order, one at a time.
type lane struct {
	net      *Network
	from, to link.ID

	mu         sync.Mutex // guards the fields below
	in, out    []byte     // messages behind their length: appended, and being delivered
	delivering bool
	turn       link.Turn // of whoever delivers
}

// lane yields the lane of a flow, or nil if one of its ends is gone.
func (o *Overlay) lane(to link.ID, flow uint64) *lane {
	o.net.mu.Lock()
	defer o.net.mu.Unlock()
	if o.net.nodes[to] == nil || o.net.nodes[o.id] != o {
		return nil
	}
	key := laneKey{to, flow % lanes}
	l := o.lanes[key]
	if l == nil {
		l = &lane{net: o.net, from: o.id, to: to}
		o.lanes[key] = l
	}
	return l
}

func (l *lane) append(head, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in = binary.BigEndian.AppendUint32(l.in, uint32(len(head)+len(body)))
	l.in = append(append(l.in, head...), body...)
}

// Flush delivers what was appended, at once or after the network's delay. It
// implements link.Flusher.
func (l *lane) Flush() {
	if l.net.Delay == 0 {
		l.deliver()
		return
	}
	time.AfterFunc(l.net.Delay, l.deliver)
}

func (l *lane) deliver() {
	l.mu.Lock()
	if l.delivering { // whoever does will find it
		l.mu.Unlock()
		return
	}
	l.delivering = true
	for len(l.in) > 0 {
		l.in, l.out = l.out[:0], l.in
		l.mu.Unlock()
		l.hand()
		l.turn.End() // may append to this lane again
		l.mu.Lock()
	}
	l.delivering = false
	l.mu.Unlock()
}

// hand gives the messages of out to the node at the other end, if both are alive.
func (l *lane) hand() {
	for b := l.out; len(b) > 0; {
		n := binary.BigEndian.Uint32(b)
		msg := b[4 : 4+n]
		b = b[4+n:]
		l.net.mu.Lock()
		to, from := l.net.nodes[l.to], l.net.nodes[l.from]
		l.net.mu.Unlock()
		if to != nil && from != nil && (l.net.Drop == nil || !l.net.Drop(l.from, l.to)) {
			if err := to.Handler.Message(&l.turn, l.from, msg); err != nil {
				panic(fmt.Sprintf("patternstest: %v from %v: % x", err, l.from, msg)) // nodes of this network break no rules
			}
		}
	}
}
