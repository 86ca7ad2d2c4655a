package wire

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Buffers that are large live as long as there is something in them: Readers and
// Outputs take them from here and give them back, so that ten thousand idle
// connections hold none, and a busy one does not allocate for each batch.
const (
	minPooled = 4 << 10 // bytes of the smallest class; what is smaller is allocated
	classes   = 11      // powers of two up to 4 MiB; what is larger is allocated
	minBuffer = 256     // bytes of the smallest buffer
)

// pools holds pointers to the first byte of free buffers: pools[i] those of
// minPooled<<i bytes.
var pools [classes]sync.Pool

// newBuffer returns an empty buffer with room for at least need bytes, which is
// positive.
func newBuffer(need int) []byte {
	class := classOf(need)
	if class < 0 || class >= classes { // doubling keeps the cost of growing linear
		return make([]byte, 0, max(minBuffer, 1<<bits.Len(uint(need-1))))
	}
	size := minPooled << class
	if first, ok := pools[class].Get().(*byte); ok {
		return unsafe.Slice(first, size)[:0] // it came from freeBuffer, which saw its capacity
	}
	return make([]byte, 0, size)
}

// growBuffer returns b with room for need bytes in all; b is not to be used any
// more.
func growBuffer(b []byte, need int) []byte {
	if need <= cap(b) {
		return b
	}
	bigger := append(newBuffer(need), b...)
	freeBuffer(b)
	return bigger
}

// freeBuffer gives b back; b is not to be used any more.
func freeBuffer(b []byte) {
	size := cap(b)
	if class := classOf(size); class >= 0 && class < classes && size == minPooled<<class {
		pools[class].Put(unsafe.SliceData(b[:1]))
	}
}

// classOf is the smallest class of at least size bytes, -1 for sizes that are
// not worth pooling.
func classOf(size int) int {
	if size <= minPooled/2 {
		return -1
	}
	return max(0, bits.Len(uint(size-1))-bits.Len(uint(minPooled-1)))
}
