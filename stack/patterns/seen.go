package patterns

const seenChunk = 256

// seen remembers, for each index of a peer's ids, the last one that came: a
// request that comes twice is handled once. Links deliver a message once, so this
// is a second line. It costs 8 bytes for each request that the peer has had in
// flight at a time, 8 MiB at most.
//
// A request that was overtaken by a later one of the same index is dropped
// too: the requester has ended it, or it would not have used the index again.
type seen struct {
	last []*[seenChunk]uint64
}

// first is whether id has not come before.
func (s *seen) first(id uint64) bool {
	index := int(id & indexMask)
	for len(s.last) <= index/seenChunk {
		s.last = append(s.last, nil)
	}
	chunk := &s.last[index/seenChunk]
	if *chunk == nil {
		*chunk = new([seenChunk]uint64)
	}
	// The index being the same, ids compare as generations do.
	if last := &(*chunk)[index%seenChunk]; id > *last {
		*last = id
		return true
	}
	return false
}
