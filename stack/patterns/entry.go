package patterns

import "time"

const (
	indexBits = 20 // of an id; the rest is the generation
	indexMask = 1<<indexBits - 1
	slabChunk = 256
)

// An entry is a request in flight, as this node sees it: who asks, and where it
// is now. It is on up to two lists: that of its place, which is the party that
// runs it or the group it is parked at, and that of a slot of the wheel.
type entry struct {
	id    uint64 // generation<<indexBits | index
	hooks [hookCount]hook
	live  bool // has no outcome yet

	asker   *party
	askerID uint64
	flow    uint32

	group  *group
	member *member // that it is offered to or runs at; nil: parked or on its way
	parked *body   // kept while it is parked
	sent   time.Duration

	deadline time.Duration // since the node's epoch; none if negative
	tick     int64         // of the wheel, if there is a deadline

	tried   []*party // refused it, or could not be reached; at most maxTries
	busy    bool     // one of them would have members
	attempt uint32   // counts the members that it was offered to
	// A goroutine that offers the request to a member does so without the lock.
	// What ends the request meanwhile leaves the entry to that goroutine.
	offers    int  // goroutines that will come back to this entry
	offering  bool // one of them is at the present attempt
	abandoned bool // ended meanwhile, and the member has to be told so
}

// A body is what a parked request keeps of its message.
type body struct{ cluster, headers, payload []byte }

func (b *body) size() int { return len(b.headers) + len(b.payload) }

// A slab holds the entries. Entries never move, and an id that was released is
// never handed out again: 2^44 generations of an index outlast the node.
type slab struct {
	limit  int // entries at most, up to 1<<indexBits
	made   int
	used   int
	chunks []*[slabChunk]entry
	free   *entry // linked through their first hook
}

// alloc yields a fresh entry, or nil at the limit.
func (s *slab) alloc() *entry {
	e := s.free
	switch {
	case e != nil:
		s.free, e.hooks[0].next = e.hooks[0].next, nil
	case s.made < s.limit:
		if s.made%slabChunk == 0 {
			s.chunks = append(s.chunks, new([slabChunk]entry))
		}
		e = &s.chunks[s.made/slabChunk][s.made%slabChunk]
		e.id = 1<<indexBits | uint64(s.made)
		s.made++
	default:
		return nil
	}
	e.live = true
	s.used++
	return e
}

// release takes back an entry that is on no list.
func (s *slab) release(e *entry) {
	*e = entry{id: e.id + 1<<indexBits}
	e.hooks[0].next, s.free = s.free, e
	s.used--
}

// find yields the entry of id while the request has no outcome, or nil.
func (s *slab) find(id uint64) *entry {
	index := int(id & indexMask)
	if index >= s.made {
		return nil
	}
	if e := &s.chunks[index/slabChunk][index%slabChunk]; e.id == id && e.live {
		return e
	}
	return nil
}
