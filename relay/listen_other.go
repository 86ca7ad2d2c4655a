//go:build !unix

package relay

import "net"

// listenSocket has nothing to open: here applications attach over TCP alone.
func listenSocket(int) (net.Listener, error) { return nil, nil }
