//go:build unix

package wire

import (
	"net"
	"syscall"
)

// A socket writes to a connection without waiting, or waiting for one step of
// progress. For the writer of an Output only.
type socket struct {
	conn net.Conn
	raw  syscall.RawConn // nil: conn is none of the kernel's

	// The arguments and results of the functions below, which are made once, so
	// that a write allocates nothing.
	rest []byte
	n    int
	err  error
	once func(fd uintptr) bool // write(2), whatever comes of it
	wait func(fd uintptr) bool // write(2), again when the socket is ready
}

func (s *socket) init(conn net.Conn) {
	s.conn = conn
	var err error
	switch c := conn.(type) { // a type that wraps one of these must be asked, not bypassed
	case *net.TCPConn:
		s.raw, err = c.SyscallConn()
	case *net.UnixConn:
		s.raw, err = c.SyscallConn()
	}
	if err != nil {
		s.raw = nil
	}
	s.once = func(fd uintptr) bool {
		s.attempt(fd)
		return true
	}
	s.wait = func(fd uintptr) bool { return s.attempt(fd) }
}

// tryWrite writes what fits now; blocked means that it was not everything.
func (s *socket) tryWrite(b []byte) (n int, blocked bool, err error) {
	if s.raw == nil {
		return 0, true, nil
	}
	n, err = s.call(s.once, b)
	return n, n < len(b), err
}

// write waits until the connection takes something. It may take less than b.
func (s *socket) write(b []byte) (int, error) {
	if s.raw == nil {
		return s.conn.Write(b[:min(len(b), step)])
	}
	return s.call(s.wait, b)
}

func (s *socket) call(f func(fd uintptr) bool, b []byte) (int, error) {
	s.rest, s.n, s.err = b, 0, nil
	err := s.raw.Write(f)
	s.rest = nil
	if err == nil {
		err = s.err
	}
	return s.n, err
}

// attempt writes once; false means that the socket would not take anything.
func (s *socket) attempt(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), s.rest)
		switch err {
		case nil:
			s.n = n
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		s.err = err
		return true
	}
}
