package link

import "time"

// A Flusher is an output that appending does not write to: Flush does. Flush
// never blocks and may be called by several goroutines at once.
type Flusher interface {
	Flush()
}

// maxScan bounds the search for an output that was touched already: one that is
// flushed twice costs less than a long search.
const maxScan = 8

// A Turn is a reader's work between two waits for input: the outputs that it
// appended to. The zero Turn is empty. It belongs to one goroutine.
type Turn struct {
	touched []Flusher
	time    time.Time // when somebody first asked in this turn
}

// Time is a time within the turn, for what need not know it closer: reading the
// clock for every message of a turn costs as much as handling some of them.
func (t *Turn) Time() time.Time {
	if t.time.IsZero() {
		t.time = time.Now()
	}
	return t.time
}

// Touch notes that f holds something to be written.
func (t *Turn) Touch(f Flusher) {
	for _, known := range t.touched[max(0, len(t.touched)-maxScan):] {
		if known == f {
			return
		}
	}
	t.touched = append(t.touched, f)
}

// End flushes every output that was touched. The turn is empty afterwards.
func (t *Turn) End() {
	for i, f := range t.touched {
		f.Flush()
		t.touched[i] = nil
	}
	t.touched = t.touched[:0]
	t.time = time.Time{}
}
