//go:build !unix

package wire

import (
	"net"
	"testing"
)

// pairs lists kinds of connections, by name.
func pairs() map[string]func(t testing.TB) (near, far net.Conn) {
	return map[string]func(t testing.TB) (near, far net.Conn){"tcp": tcpPair, "pipe": pipePair}
}
