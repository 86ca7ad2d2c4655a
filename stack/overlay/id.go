package overlay

import (
	"encoding/binary"
	"math/bits"

	"github.com/project-iris/iris/stack/link"
)

// Distances are those of Kademlia: the exclusive or of two ids, as a number.

// closer compares the distances of a and b to target: negative if a is closer.
func closer(target, a, b link.ID) int {
	for i := 0; i < len(target); i += 8 {
		t := binary.BigEndian.Uint64(target[i:])
		x, y := t^binary.BigEndian.Uint64(a[i:]), t^binary.BigEndian.Uint64(b[i:])
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
	}
	return 0
}

// prefix is how many leading bits a and b share, 256 if they are equal.
func prefix(a, b link.ID) int {
	for i := 0; i < len(a); i += 8 {
		if x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); x != 0 {
			return 8*i + bits.LeadingZeros64(x)
		}
	}
	return 8 * len(a)
}

// within is an id that shares exactly n leading bits with id; the others are
// those of random.
func within(id link.ID, n int, random link.ID) link.ID {
	for i := range n {
		random = withBit(random, i, bit(id, i))
	}
	return withBit(random, n, !bit(id, n))
}

func bit(id link.ID, i int) bool { return id[i/8]&(0x80>>(i%8)) != 0 }

func withBit(id link.ID, i int, set bool) link.ID {
	if set {
		id[i/8] |= 0x80 >> (i % 8)
	} else {
		id[i/8] &^= 0x80 >> (i % 8)
	}
	return id
}
