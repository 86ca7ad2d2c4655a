package patterns

// The lists that an entry can be on at the same time, by its hook for them.
const (
	hookPlace = iota
	hookWheel
	hookCount
)

type hook struct{ prev, next *entry }

// A chain is an intrusive list: it links entries through one of their hooks, always the
// same, which the caller names.
type chain struct{ head, tail *entry }

// push appends an entry that is on no list of this hook.
func (l *chain) push(h int, e *entry) {
	e.hooks[h] = hook{prev: l.tail}
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.hooks[h].next = e
	}
	l.tail = e
}

// remove takes out an entry that is on l.
func (l *chain) remove(h int, e *entry) {
	at := e.hooks[h]
	if at.prev == nil {
		l.head = at.next
	} else {
		at.prev.hooks[h].next = at.next
	}
	if at.next == nil {
		l.tail = at.prev
	} else {
		at.next.hooks[h].prev = at.prev
	}
	e.hooks[h] = hook{}
}
