package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// FirstPort is the first of the well-known UDP ports that nodes live on: 23550
// to 23554. IANA has not assigned them, and they lie below the ephemeral ports
// (32768 up on Linux, 49152 up elsewhere) and the node ports of Kubernetes
// (30000 up).
const FirstPort uint16 = 23550

// Ports is how many ports nodes live on, and so how many fit on one address.
const Ports = 5

// port is the i-th well-known port, counting round.
func port(i int) uint16 { return FirstPort + uint16(i%Ports) }

// socketBuffer is what is asked for; systems grant what they like.
const socketBuffer = 7 << 20

// Listen binds a UDP socket at the first free well-known port of at's address,
// with big buffers where the system grants them. The address may be
// unspecified (0.0.0.0: all addresses of the host) and must be IPv4; the mask
// plays no part. It fails when all Ports ports are taken or the address is not this host's.
func Listen(at netip.Prefix) (*net.UDPConn, error) {
	if !at.Addr().Is4() {
		return nil, fmt.Errorf("discovery: listen on %v: only IPv4 addresses are supported", at)
	}
	var last error
	for i := range Ports {
		addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port(i)))
		conn, err := net.ListenUDP("udp4", addr)
		if err == nil {
			// Best effort: a node with small buffers works, but drops more in bursts.
			_ = conn.SetReadBuffer(socketBuffer)
			_ = conn.SetWriteBuffer(socketBuffer)
			return conn, nil
		}
		last = err
	}
	return nil, listenError(at.Addr(), last)
}

// listenError says why no port of addr could be bound, and what to do.
func listenError(addr netip.Addr, err error) error {
	remedy := "check that the address belongs to this host"
	if errors.Is(err, syscall.EADDRINUSE) {
		remedy = fmt.Sprintf("all are taken: stop one of the %d programs that hold them, or use another address of this host", Ports)
	}
	return fmt.Errorf("discovery: listen on UDP ports %d to %d of %v: %w (%s)", port(0), port(Ports-1), addr, err, remedy)
}
