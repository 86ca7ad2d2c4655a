package wire

import (
	"errors"
	"fmt"
	"io"
)

// Sizes of a Reader's buffer, in bytes.
const (
	smallRead = 4 << 10   // what it keeps for good
	largeRead = 64 << 10  // what it grows to in order to read more frames at once
	keptRead  = 128 << 10 // what it may keep from one frame to the next
)

// A Reader cuts a byte stream into frames, in place. One read of the stream may
// bring many frames. Not for concurrent use.
//
// It keeps a buffer of 4 KiB. A frame that needs more gets it as its bytes
// arrive, never for the length that it declares: each step holds at most four
// times the bytes that have come. A stream that fills the buffer gets a larger
// one, up to 64 KiB; a large buffer is given back when it was drained and was
// not needed, one beyond 128 KiB as soon as it was drained.
type Reader struct {
	src   io.Reader
	limit uint64
	small []byte // the buffer of smallRead bytes
	buf   []byte // small, or a larger one; always at its full length
	r, w  int    // buf[r:w] has been read and not been returned
	last  int    // bytes of the frame returned last, at r
	peak  int    // greatest w since buf was drained
	err   error  // of the stream or of a broken frame, once met
}

// NewReader reads frames of at most limit bytes of content from src.
func NewReader(src io.Reader, limit uint64) *Reader {
	small := make([]byte, smallRead)
	return &Reader{src: src, limit: limit, small: small, buf: small}
}

// SetLimit changes the limit for the frames that Next has not returned yet.
func (r *Reader) SetLimit(limit uint64) { r.limit = limit }

// Next returns the content of the next frame, valid until the next call. An
// *Error is a broken frame, after which there is no other; io.EOF a clean end
// between frames, io.ErrUnexpectedEOF one within. Another error of the stream
// is returned as it is, and Next may be called again: nothing is lost when a
// deadline has passed.
func (r *Reader) Next() ([]byte, error) {
	r.r += r.last
	r.last = 0
	for {
		head, size, err := r.head(r.r)
		if err != nil {
			return nil, err
		}
		need := maxHead
		if head > 0 {
			need = head + size
		}
		if head > 0 && r.w-r.r >= need {
			r.last = need
			return r.buf[r.r+head : r.r+need : r.r+need], nil
		}
		if err := r.fill(need); err != nil {
			return nil, err
		}
	}
}

// Buffered tells whether Next would return without reading from the stream.
func (r *Reader) Buffered() bool {
	next := r.r + r.last
	head, size, err := r.head(next)
	return err != nil || head > 0 && r.w-next >= head+size
}

// head parses the head of the frame at index at; 0 when it is not there yet.
func (r *Reader) head(at int) (head, size int, err error) {
	head, content, err := parseFrameHead(r.buf[at:r.w])
	switch {
	case err != nil:
		return 0, 0, err
	case content > r.limit:
		return 0, 0, &Error{CodeTooLarge, "4.2", fmt.Sprintf("a frame of %d bytes exceeds the limit of %d", content, r.limit)}
	}
	return head, int(content), nil
}

// fill reads at least one byte more of a frame of need bytes.
func (r *Reader) fill(need int) error {
	if err := r.err; err != nil {
		return r.ended(err)
	}
	r.makeRoom(need)
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		r.peak = max(r.peak, r.w)
		if n > 0 {
			r.err = err // met again when what was read is used up
			return nil
		}
		if err != nil {
			return r.ended(err)
		}
	}
	return io.ErrNoProgress
}

// maxEmptyReads is how often in a row a stream may yield neither byte nor error.
const maxEmptyReads = 100

// ended turns an error of the stream into what Next returns.
func (r *Reader) ended(err error) error {
	r.err = nil
	if !errors.Is(err, io.EOF) {
		return err
	}
	r.err = io.EOF
	if r.w > r.r {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// makeRoom sees to it that there is room behind w.
func (r *Reader) makeRoom(need int) {
	if r.r == r.w {
		r.r, r.w = 0, 0
		r.resize()
		return
	}
	if r.r > 0 && r.r+need > len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) {
		r.replace(min(4*len(r.buf), need))
	}
}

// resize chooses the size of the drained buffer by how full it was.
func (r *Reader) resize() {
	size := len(r.buf)
	switch {
	case size > keptRead, size > smallRead && r.peak < size/4:
		r.replace(smallRead)
	case r.peak == size && size < largeRead:
		r.replace(2 * size)
	}
	r.peak = 0
}

// replace moves what is left to a buffer of size bytes.
func (r *Reader) replace(size int) {
	bigger := r.small
	if size > smallRead {
		bigger = newBuffer(size)
		bigger = bigger[:cap(bigger)]
	}
	r.w = copy(bigger, r.buf[r.r:r.w])
	r.r = 0
	if len(r.buf) > smallRead {
		freeBuffer(r.buf)
	}
	r.buf = bigger
}
