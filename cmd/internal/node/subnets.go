package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A place is where a node listens and where it looks for others.
type place struct {
	listen  netip.Prefix
	subnets []netip.Prefix
}

// chooseSubnets follows bind where it is given; otherwise it listens on all
// addresses and probes the IPv4 subnets of every interface that is up and
// neither loopback nor point-to-point.
func chooseSubnets(bind netip.Prefix) (place, error) {
	if bind.IsValid() {
		return place{bind, []netip.Prefix{bind.Masked()}}, nil
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return place{}, fmt.Errorf("list the network interfaces: %w", err)
	}
	any := place{listen: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return place{}, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		any.subnets = append(any.subnets, subnetsOf(addrs)...)
	}
	if len(any.subnets) == 0 {
		return place{}, errors.New("no network interface has an IPv4 address: say which address to use with -bind ADDR/MASK, or work alone with -dev")
	}
	return any, nil
}

// subnetsOf keeps the IPv4 subnets that are small enough to be probed.
func subnetsOf(addrs []net.Addr) []netip.Prefix {
	var subnets []netip.Prefix
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() || p.Bits() < 16 {
			continue
		}
		if !slices.Contains(subnets, p.Masked()) {
			subnets = append(subnets, p.Masked())
		}
	}
	return subnets
}
