//go:build !unix

package link

import "net"

// receiveBufferOf is not known here.
func receiveBufferOf(net.PacketConn) int { return 0 }
