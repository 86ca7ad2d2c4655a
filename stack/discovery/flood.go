package discovery

import (
	"sync"
	"time"
)

const (
	// floodLimit is how many datagrams of a class are turned away in a second before that
	// is a flood: far more than all nodes of other networks nearby send.
	floodLimit = 2000
	// floodKeep says of how many datagrams of a flood one is looked at.
	floodKeep = 16
	// floodOver is how long after its last second a flood counts as over.
	floodOver = 3 * time.Second
)

// A class sorts datagrams by what strangers far away do not know.
type class int

const (
	marked   class = iota // with the mark of this network's key
	unmarked              // without
	classes
)

// String is the name of c in the log.
func (c class) String() string { return [classes]string{"marked", "unmarked"}[c] }

// classOf sorts the datagram b.
func classOf(b []byte, own Mark) class {
	if len(b) >= offsetNonce && Mark(b[offsetMark:offsetNonce]) == own {
		return marked
	}
	return unmarked
}

// A flood is more of a class than can be looked at. It does no I/O and is driven by the
// time it is given.
type flood struct {
	second time.Time // that is being counted
	count  int       // of what was turned away in it
	last   time.Time // when a second was over the limit
}

// refused counts n datagrams that were turned away, and tells whether a flood begins
// with them.
func (f *flood) refused(now time.Time, n int) bool {
	if now.Sub(f.second) >= time.Second {
		f.second, f.count = now, 0
	}
	if f.count += n; f.count < floodLimit {
		return false
	}
	begins := !f.on(now)
	f.last = now
	return begins
}

// on tells whether there is a flood.
func (f *flood) on(now time.Time) bool { return !f.last.IsZero() && now.Sub(f.last) < floodOver }

// A thinning is what the system drops unseen. The zero thinning is nothing.
type thinning struct {
	mark Mark
	keep [classes]int // one in so many; 0 is all
}

// floods follow the floods of each class. Safe for concurrent use.
type floods struct {
	mu      sync.Mutex // guards the fields below
	of      [classes]flood
	thinned thinning // what the system does
}

// saw takes note of a datagram, and returns how many like it were dropped unseen and
// whether a flood begins with it.
func (f *floods) saw(now time.Time, c class, refused bool) (unseen int, begins bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stands := max(1, f.thinned.keep[c])
	return stands - 1, refused && f.of[c].refused(now, stands)
}

// wanted is what the system is to do, and what it does.
func (f *floods) wanted(now time.Time, own Mark) (want, have thinning) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range classes {
		if f.of[c].on(now) {
			want.mark, want.keep[c] = own, floodKeep
		}
	}
	return want, f.thinned
}

// thinnedAs takes note of what the system does.
func (f *floods) thinnedAs(t thinning) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thinned = t
}
