package wire

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func pipePair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	near, far = net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func tcpPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	return joined(t, l)
}

// joined is both ends of one connection to l.
func joined(t testing.TB, l net.Listener) (near, far net.Conn) {
	t.Helper()
	defer l.Close()
	near, err := net.Dial(l.Addr().Network(), l.Addr().String())
	require.NoError(t, err)
	far, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}
