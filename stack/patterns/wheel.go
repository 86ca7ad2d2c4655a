package patterns

import (
	"math"
	"math/bits"
	"time"
)

const (
	wheelTick  = 5 * time.Millisecond
	wheelSlots = 2048 // about ten seconds; later deadlines go round more than once
	never      = math.MaxInt64
)

// A wheel holds entries by deadline. Deadlines are rounded up to ticks, so
// none fires early. Times are since the node's epoch.
type wheel struct {
	slots [wheelSlots]chain
	full  [wheelSlots / 64]uint64 // which slots hold entries
	done  int64                   // the last tick that was handled
	armed int64                   // the tick at which somebody will look; never if nobody
}

// add puts in an entry with a deadline. It returns true if whoever looks after
// the wheel has to be woken for it. A tick that turns out to be for nothing is
// not taken back: requests one after another wake nobody.
func (w *wheel) add(e *entry) (early bool) {
	e.tick = max(int64((e.deadline+wheelTick-1)/wheelTick), w.done+1)
	slot := e.tick % wheelSlots
	w.slots[slot].push(hookWheel, e)
	w.full[slot/64] |= 1 << (slot % 64)
	if e.tick >= w.armed {
		return false
	}
	w.armed = e.tick
	return true
}

func (w *wheel) remove(e *entry) {
	slot := e.tick % wheelSlots
	w.slots[slot].remove(hookWheel, e)
	if w.slots[slot].head == nil {
		w.full[slot/64] &^= 1 << (slot % 64)
	}
}

// due yields an entry whose deadline has passed, or nil if there is none (any
// more). The caller removes it before it asks again.
func (w *wheel) due(now time.Duration) *entry {
	last := int64(now / wheelTick)
	w.done = max(w.done, last-wheelSlots) // one turn passes every slot
	for {
		tick := w.next()
		if tick > last {
			w.done = max(w.done, last)
			return nil
		}
		for e := w.slots[tick%wheelSlots].head; e != nil; e = e.hooks[hookWheel].next {
			if e.tick <= last {
				return e
			}
		}
		w.done = tick
	}
}

// next is the first tick that may have something due, or never.
func (w *wheel) next() int64 {
	first := (w.done + 1) % wheelSlots
	for i := range int64(len(w.full) + 1) {
		at := (first/64 + i) % int64(len(w.full))
		word := w.full[at]
		switch i {
		case 0: // slots before the first are the last ones of this turn
			word &= math.MaxUint64 << (first % 64)
		case int64(len(w.full)):
			word &^= math.MaxUint64 << (first % 64)
		}
		if word != 0 {
			slot := at*64 + int64(bits.TrailingZeros64(word))
			return w.done + 1 + (slot-first+wheelSlots)%wheelSlots
		}
	}
	return never
}
