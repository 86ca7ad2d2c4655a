//go:build !linux

package link

import "net"

// withReceiveOffload gives the socket as it is: receive offload is Linux's.
func withReceiveOffload(socket net.PacketConn) (net.PacketConn, error) { return socket, nil }
