package discovery

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv6"
)

// callBuffer bounds what waits to be looked at: about a tenth of a second of a flood.
const callBuffer = 64 << 10

// callGroup is where calls go: "IRIS", a transient group (RFC 4291 2.7) that no router passes on.
var callGroup = net.UDPAddr{IP: net.ParseIP("ff12::4952:4953"), Port: int(FirstPort)}

// A callSocket is the CallConn of the system. One goroutine calls, another one reads.
type callSocket struct {
	udp  *net.UDPConn
	ipv6 *ipv6.PacketConn
	// joined are the interfaces whose calls are heard, by index: one that comes again has another. Owned by WriteCall.
	joined map[int]bool
}

// ListenCalls opens a socket for calls, one of several on a host. It fails where there is no IPv6.
func ListenCalls() (CallConn, error) {
	// For a group, net binds a shared port of the unspecified address. IPv4 has its own.
	udp, err := net.ListenUDP("udp6", &callGroup)
	if err != nil {
		return nil, fmt.Errorf("discovery: listen for calls: %w", err)
	}
	c := &callSocket{udp, ipv6.NewPacketConn(udp), make(map[int]bool)}
	_ = udp.SetReadBuffer(callBuffer)
	// Nodes of this host find each other by their ports. A failure costs own calls, which are refused.
	_ = c.ipv6.SetMulticastLoopback(false)
	return c, nil
}

// ReadCall implements CallConn.
func (c *callSocket) ReadCall(b []byte) (int, netip.Addr, error) {
	n, from, err := c.udp.ReadFromUDPAddrPort(b)
	return n, from.Addr(), err
}

// WriteCall joins the group on an interface before its first call there.
func (c *callSocket) WriteCall(b []byte, nic string) error {
	on, err := net.InterfaceByName(nic)
	if err != nil {
		return err
	}
	if !c.joined[on.Index] {
		if err := c.ipv6.JoinGroup(on, &callGroup); err != nil {
			return fmt.Errorf("join the group of calls: %w", err)
		}
		c.joined[on.Index] = true
	}
	if err := c.ipv6.SetMulticastInterface(on); err != nil {
		return err
	}
	_, err = c.udp.WriteToUDP(b, &callGroup)
	return err
}

// Close implements CallConn.
func (c *callSocket) Close() error { return c.udp.Close() }
