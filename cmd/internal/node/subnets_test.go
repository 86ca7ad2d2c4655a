package node

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestInterfacesToLookOn(t *testing.T) {
	const up = net.FlagUp | net.FlagRunning
	const lan = up | net.FlagBroadcast | net.FlagMulticast
	for _, row := range []struct {
		name                     string
		nics                     []nic
		subnets, rear, broadcast []netip.Prefix
	}{
		{"none", nil, nil, nil, nil},
		{"one", []nic{{"eth0", lan, prefixes("10.0.3.7/24", "fe80::1/64")}}, prefixes("10.0.3.0/24"), nil, prefixes("10.0.3.0/24")},
		{"loopback, down, point-to-point", []nic{
			{"lo", up | net.FlagLoopback, prefixes("127.0.0.1/8")},
			{"eth1", net.FlagBroadcast, prefixes("10.0.3.7/24")},
			{"tun0", up | net.FlagPointToPoint, prefixes("10.8.0.2/24")},
		}, nil, nil, nil},
		{"IPv6 only", []nic{{"eth0", lan, prefixes("fd00::1/64")}}, nil, nil, nil},
		{"several, bridges last", []nic{
			{"docker0", lan, prefixes("172.17.0.1/16")},
			{"eth0", lan, prefixes("10.0.3.7/20")},
			{"br-0123", lan, prefixes("172.18.0.1/16")},
			{"veth9", lan, prefixes("169.254.7.7/16")},
			{"wlan0", lan, prefixes("192.168.1.9/24")},
			{"cni0", lan, prefixes("10.244.0.1/24")},
			{"virbr0", lan, prefixes("192.168.122.1/24")},
		}, prefixes("10.0.0.0/20", "192.168.1.0/24"),
			prefixes("172.17.0.0/16", "172.18.0.0/16", "169.254.0.0/16", "10.244.0.0/24", "192.168.122.0/24"),
			prefixes("10.0.0.0/20", "192.168.1.0/24")},
		{"br0 is an ordinary bridge", []nic{{"br0", lan, prefixes("10.0.3.7/24")}}, prefixes("10.0.3.0/24"), nil, prefixes("10.0.3.0/24")},
		{"too large", []nic{{"eth0", lan, prefixes("10.7.3.7/8")}}, prefixes("10.7.0.0/16"), nil, prefixes("10.0.0.0/8")},
		{"/32", []nic{{"eth0", lan, prefixes("10.128.0.2/32")}}, prefixes("10.128.0.2/32"), nil, nil},
		{"/31", []nic{{"eth0", lan, prefixes("10.128.0.2/31")}}, prefixes("10.128.0.2/31"), nil, nil},
		{"no broadcast", []nic{{"ib0", up, prefixes("10.0.3.7/24")}}, prefixes("10.0.3.0/24"), nil, nil},
		{"two addresses of a subnet", []nic{{"eth0", lan, prefixes("10.0.3.7/24", "10.0.3.8/24")}}, prefixes("10.0.3.0/24"), nil, prefixes("10.0.3.0/24", "10.0.3.0/24")},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := choosePlace(row.nics)
			require.Equal(t, row.subnets, p.subnets)
			require.Equal(t, row.rear, p.rear)
			require.Equal(t, row.broadcast, p.broadcast)
			require.Len(t, p.looked, len(p.host))
		})
	}
}

func TestInterfacesToCallOn(t *testing.T) {
	const lan = net.FlagUp | net.FlagBroadcast | net.FlagMulticast
	p := choosePlace([]nic{
		{"eth0", lan, prefixes("10.0.3.7/24", "10.0.3.8/24", "10.5.0.1/20", "fe80::1/64", "2001:db8::1/64")},
		{"eth1", lan, prefixes("10.0.3.9/24", "fe80::2/64")}, // the same subnet by another way
		{"global", lan, prefixes("10.1.0.1/24", "2001:db8::1/64")},
		{"ipv4", lan, prefixes("10.2.0.1/24", "169.254.0.1/24")},
		{"unicast", net.FlagUp | net.FlagBroadcast, prefixes("10.3.0.1/24", "fe80::3/64")},
		{"down", lan &^ net.FlagUp, prefixes("10.4.0.1/24", "fe80::4/64")},
		{"tun0", lan | net.FlagPointToPoint, prefixes("10.6.0.1/24", "fe80::5/64")},
		{"lo", lan | net.FlagLoopback, prefixes("127.0.0.1/8", "fe80::6/64")},
		{"docker0", lan, prefixes("172.17.0.1/16", "fe80::7/64")},
		{"lone", lan, prefixes("10.7.0.1/32", "fe80::8/64")},
		{"vast", lan, prefixes("10.8.0.1/7", "fe80::9/64")},
	})
	require.Equal(t, []discovery.Caller{
		{Interface: "eth0", Address: netip.MustParsePrefix("10.0.3.7/24")},
		{Interface: "eth0", Address: netip.MustParsePrefix("10.5.0.1/20")},
		{Interface: "eth1", Address: netip.MustParsePrefix("10.0.3.9/24")},
	}, p.reach().Callers)
	require.True(t, p.multicast)
	for _, s := range p.looked {
		require.Equal(t, s.Interface == "eth0" || s.Interface == "eth1", s.Multicast, s.Interface)
	}
}

func TestMulticastThatComesLaterIsNoOtherSubnet(t *testing.T) {
	const lan = net.FlagUp | net.FlagBroadcast | net.FlagMulticast
	before := choosePlace([]nic{{"eth0", lan, prefixes("10.0.3.7/24")}})
	after := choosePlace([]nic{{"eth0", lan, prefixes("10.0.3.7/24", "fe80::1/64")}})
	require.NotEqual(t, before.looked, after.looked, "discovery has to know")
	require.Empty(t, missing(before.looked, after.looked))
	require.Empty(t, missing(after.looked, before.looked))
}

func TestBindOverridesTheInterfaces(t *testing.T) {
	p, err := chooseSubnets(netip.MustParsePrefix("127.9.8.7/28"), false)
	require.NoError(t, err)
	require.Equal(t, netip.MustParsePrefix("127.9.8.7/28"), p.listen)
	require.Equal(t, prefixes("127.9.8.0/28"), p.subnets)
	require.Empty(t, p.host)
	require.Empty(t, p.broadcast)
	require.False(t, p.multicast, "it must not call")
	require.Empty(t, p.callers)
	p, err = chooseSubnets(netip.MustParsePrefix("127.9.8.7/8"), false)
	require.NoError(t, err)
	require.Equal(t, prefixes("127.9.0.0/16"), p.subnets)
}
