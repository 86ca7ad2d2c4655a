//go:build unix

package wire

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// pairs lists kinds of connections, by name.
func pairs() map[string]func(t testing.TB) (near, far net.Conn) {
	return map[string]func(t testing.TB) (near, far net.Conn){"unix": unixPair, "tcp": tcpPair, "pipe": pipePair}
}

func unixPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	return joined(t, l)
}
