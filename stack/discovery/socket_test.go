package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFiveNodesFitOnOneAddressAndTheSixthIsToldWhy(t *testing.T) {
	at := netip.MustParsePrefix("127.83.61.9/29")
	for i := range Ports {
		conn, err := Listen(at)
		require.NoError(t, err)
		defer conn.Close()
		require.Equal(t, netip.AddrPortFrom(at.Addr(), port(i)), unmapped(conn.LocalAddr().(*net.UDPAddr).AddrPort()))
	}
	_, err := Listen(at)
	require.ErrorContains(t, err, "UDP ports 23550 to 23554 of 127.83.61.9")
	require.ErrorContains(t, err, "all are taken")

	other, err := Listen(netip.MustParsePrefix("127.83.61.10/29"))
	require.NoError(t, err)
	require.Equal(t, int(FirstPort), other.LocalAddr().(*net.UDPAddr).Port)
	require.NoError(t, other.Close())
}

func TestListenRefusesWhatIsNoIPv4Address(t *testing.T) {
	for _, at := range []netip.Prefix{{}, netip.MustParsePrefix("::1/128")} {
		_, err := Listen(at)
		require.ErrorContains(t, err, "only IPv4")
	}
}

func TestListenErrorOfAForeignAddressNamesTheRemedy(t *testing.T) {
	err := listenError(netip.MustParseAddr("192.0.2.1"), syscall.EADDRNOTAVAIL)
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
	require.ErrorContains(t, err, "192.0.2.1")
	require.ErrorContains(t, err, "belongs to this host")
}

// A udpConn makes a Conn of a UDP socket.
type udpConn struct{ *net.UDPConn }

func (c udpConn) ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	return c.ReadFromUDPAddrPort(b)
}

func (c udpConn) WriteProbe(b []byte, addr netip.AddrPort) error {
	_, err := c.WriteToUDPAddrPort(b, addr)
	return err
}

func (udpConn) ThinProbes(int, uint16, uint32, uint32) error { return errors.ErrUnsupported }

func TestNodesFindEachOtherOverRealSockets(t *testing.T) {
	const nodes = 3
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan [2]byte, 100) // by whom, whom
	var running sync.WaitGroup
	for i := range byte(nodes) {
		at := netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 83, 62, 1 + i}), 29)
		socket, err := Listen(at)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, socket.Close()) })
		p, err := New(Config{
			Conn:    udpConn{socket},
			Secrets: [][]byte{testSecret},
			Self:    [32]byte{i},
			Reach:   Reach{Subnets: []netip.Prefix{at}},
			Exclude: socket.LocalAddr().(*net.UDPAddr).AddrPort(),
		})
		require.NoError(t, err)
		running.Go(func() {
			// Found does not wait: what overflows the channel is a repetition.
			err := p.Run(ctx, func(id [32]byte, _ netip.AddrPort) {
				select {
				case found <- [2]byte{i, id[0]}:
				default:
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	defer running.Wait()
	defer cancel()
	pairs := make(map[[2]byte]bool)
	for len(pairs) < nodes*(nodes-1) {
		select {
		case pair := <-found:
			pairs[pair] = true
		case <-ctx.Done():
			require.Fail(t, "not all have found each other", "%v", pairs)
		}
	}
}
