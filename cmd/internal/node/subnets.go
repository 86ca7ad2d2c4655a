package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/project-iris/iris/stack/discovery"
)

// widestBits is the widest subnet that is probed; of a wider one, the part of
// this size around the own address.
const widestBits = 16

// A place is where a node listens and where it looks for others.
type place struct {
	listen    netip.Prefix
	host      []netip.Addr   // own addresses, if it listens on all
	subnets   []netip.Prefix // to be probed
	rear      []netip.Prefix // to be probed after those
	broadcast []netip.Prefix // that have a broadcast address
	multicast bool           // a socket for calls may be opened
	callers   []discovery.Caller
	looked    []Subnet // all of them, for a human
}

// A Subnet is one that the node has an address on.
type Subnet struct {
	Interface string       `json:"interface,omitempty"` // empty for -bind
	Address   netip.Prefix `json:"address"`             // own address and mask
	Probed    netip.Prefix `json:"probed"`              // where it looks for others
	Broadcast bool         `json:"broadcast"`           // it asks everybody at once, too
	Multicast bool         `json:"multicast"`           // it calls everybody by IPv6 multicast, too
	Bridge    bool         `json:"bridge"`              // of local containers: searched last
}

// A nic is a network interface with its addresses.
type nic struct {
	name  string
	flags net.Flags
	addrs []netip.Prefix
}

// multicasts tells whether IPv6 datagrams to everybody can leave and come in.
func (n nic) multicasts() bool {
	return n.flags&net.FlagMulticast != 0 && slices.ContainsFunc(n.addrs, func(a netip.Prefix) bool {
		return a.Addr().Is6() && a.Addr().IsLinkLocalUnicast()
	})
}

// sameGround tells whether o is of the same subnet and interface.
func (s Subnet) sameGround(o Subnet) bool {
	return s.Interface == o.Interface && s.Address.Masked() == o.Address.Masked()
}

// chooseSubnets follows bind where it is given; otherwise it looks on every
// network interface. Without a subnet to probe there must be others hints.
func chooseSubnets(bind netip.Prefix, hints bool) (place, error) {
	if bind.IsValid() {
		p := place{listen: bind}
		p.add(nic{}, bind, false)
		return p, nil
	}
	nics, err := hostNICs()
	if err != nil {
		return place{}, err
	}
	p := choosePlace(nics)
	if len(p.looked) == 0 && !hints {
		return place{}, errors.New("no network interface has an IPv4 address to look for other nodes from: say which address to use with -bind ADDR/MASK, name other nodes with -join, or work alone with -dev")
	}
	return p, nil
}

// hostNICs lists the network interfaces of this host.
func hostNICs() ([]nic, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var nics []nic
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		n := nic{name: i.Name, flags: i.Flags}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.addrs = append(n.addrs, p)
			}
		}
		nics = append(nics, n)
	}
	return nics, nil
}

// choosePlace listens on all addresses and looks on the IPv4 subnets of those of nics
// that are up and neither loopback nor point-to-point, container bridges last. It calls on
// those that can multicast over IPv6 and are no bridges, once for each of their subnets. Nobody else decides to call.
func choosePlace(nics []nic) place {
	p := place{listen: netip.PrefixFrom(netip.IPv4Unspecified(), 0), multicast: true}
	for _, n := range nics {
		if n.flags&net.FlagUp == 0 || n.flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		for _, addr := range n.addrs {
			if !addr.Addr().Is4() {
				continue
			}
			p.host = append(p.host, addr.Addr())
			p.add(n, addr, isBridge(n.name))
		}
	}
	return p
}

// add adds the subnet of an own address on n.
func (p *place) add(n nic, addr netip.Prefix, bridge bool) {
	s := Subnet{Interface: n.name, Address: addr, Probed: addr.Masked(), Bridge: bridge}
	if addr.Bits() < widestBits {
		s.Probed = netip.PrefixFrom(addr.Addr(), widestBits).Masked()
	}
	// A broadcast address wider than a /8 is nobody's.
	many := !bridge && addr.Bits() >= 8 && addr.Bits() <= 30
	if s.Broadcast = many && n.flags&net.FlagBroadcast != 0; s.Broadcast {
		p.broadcast = append(p.broadcast, addr.Masked())
	}
	if s.Multicast = many && n.multicasts(); s.Multicast && !slices.ContainsFunc(p.looked, s.sameGround) {
		p.callers = append(p.callers, discovery.Caller{Interface: n.name, Address: addr})
	}
	list := &p.subnets
	if bridge {
		list = &p.rear
	}
	if !slices.Contains(*list, s.Probed) {
		*list = append(*list, s.Probed)
	}
	p.looked = append(p.looked, s)
}

// reach is p as discovery sees it.
func (p *place) reach() discovery.Reach {
	return discovery.Reach{Subnets: p.subnets, Rear: p.rear, Host: p.host, Broadcast: p.broadcast, Callers: p.callers}
}

// isBridge tells by its name whether an interface leads to local containers or virtual machines.
func isBridge(name string) bool {
	return slices.ContainsFunc([]string{"docker", "br-", "veth", "cni", "virbr"}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}
