//go:build !unix

package wire

import "net"

// A socket writes to a connection. Where a write cannot be tried without
// waiting, the Output's goroutine does them all.
type socket struct{ conn net.Conn }

func (s *socket) init(conn net.Conn) { s.conn = conn }

// tryWrite writes nothing.
func (s *socket) tryWrite([]byte) (n int, blocked bool, err error) { return 0, true, nil }

// write waits until the connection takes a step.
func (s *socket) write(b []byte) (int, error) { return s.conn.Write(b[:min(len(b), step)]) }
