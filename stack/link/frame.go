package link

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// headerBytes is the size of the length before each message.
const headerBytes = 4

// Sizes of a reader's buffer.
const (
	readBufferBytes = 16 << 10
	shrinkAfter     = 64 // small reads in a row after which a large buffer goes
)

// appendFrame appends head+body as one message with its length.
func appendFrame(b, head, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)+len(body)))
	b = append(b, head...)
	return append(b, body...)
}

// A splitter cuts a stream into messages, in one buffer that grows as the bytes
// of a large message arrive, never because of a length that was merely declared.
// It belongs to one goroutine. The zero value is not ready: max must be set.
type splitter struct {
	max        int                       // bytes of a message
	mark       func(length uint32) error // is told of marks, echoes and certificates to come; nil where none belong
	least      int                       // size of the buffer while no bytes are there; if zero, it only shrinks after a while
	full       bool                      // what was read last filled the buffer: there may be more
	buf        []byte
	start, end int // of what was read and not yet given out
	small      int // reads in a row for which a small buffer would have done
}

// room is where to read the next bytes to; filled tells how many there are. What
// next gave out is invalid from here on.
func (s *splitter) room() []byte {
	switch {
	case s.buf == nil:
		s.buf = make([]byte, cmp.Or(s.least, readBufferBytes))
	case s.start == s.end:
		s.start, s.end = 0, 0
		s.fit()
	case s.start > 0:
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		grown := make([]byte, min(2*len(s.buf), max(s.max+headerBytes, len(s.buf)+1)))
		copy(grown, s.buf[:s.end])
		s.buf = grown
	}
	return s.buf[s.end:]
}

// fit changes the size of a buffer that holds nothing.
func (s *splitter) fit() {
	size := len(s.buf)
	switch {
	case s.least == 0 && size > readBufferBytes && s.small >= shrinkAfter:
		size = readBufferBytes
	case s.least > 0 && s.full:
		size = max(size, readBufferBytes)
	case s.least > 0:
		size = s.least
	}
	if size != len(s.buf) {
		s.buf = make([]byte, size)
	}
}

// unread is how many bytes were read and not given out.
func (s *splitter) unread() int { return s.end - s.start }

// filled tells that n bytes were read into room.
func (s *splitter) filled(n int) {
	s.end += n
	s.full = s.end == len(s.buf)
	if s.end > readBufferBytes {
		s.small = 0
	} else {
		s.small++
	}
}

// next gives the next whole message, or nil if its end was not read yet. The
// message is valid until room is called; it is never nil, but may be empty.
// Marks before it are handled.
func (s *splitter) next() ([]byte, error) {
	if err := s.passMarks(); err != nil {
		return nil, err
	}
	unread := s.buf[s.start:s.end]
	if len(unread) < headerBytes {
		return nil, nil
	}
	size := binary.BigEndian.Uint32(unread)
	if uint64(size) > uint64(s.max) {
		return nil, fmt.Errorf("message of %d bytes, more than %d", size, s.max)
	}
	whole := headerBytes + int(size)
	if len(unread) < whole {
		return nil, nil
	}
	s.start += whole
	return unread[headerBytes:whole:whole], nil
}

// passMarks handles the marks and echoes that are next.
func (s *splitter) passMarks() error {
	for s.mark != nil && s.end-s.start >= headerBytes {
		length := binary.BigEndian.Uint32(s.buf[s.start:])
		if length < certificateLength {
			return nil
		}
		s.start += headerBytes
		if err := s.mark(length); err != nil {
			return err
		}
	}
	return nil
}
