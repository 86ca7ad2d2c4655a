//go:build !linux

package link

import "net"

// thinOut is not known here.
func thinOut(net.PacketConn, int, uint16, uint32, uint32) error { return errCannotThin }
