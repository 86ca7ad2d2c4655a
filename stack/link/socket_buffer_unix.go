//go:build unix

package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBufferOf is the size of a socket's receive buffer as the system tells it,
// in bytes (Linux tells twice what was asked for); 0 if it does not.
func receiveBufferOf(socket net.PacketConn) int {
	conn, ok := socket.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	size := 0
	_ = raw.Control(func(fd uintptr) {
		size, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return size
}
