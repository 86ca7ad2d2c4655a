//go:build !unix

package endpoint

import (
	"errors"
	"fmt"
	"syscall"
)

func folders() ([]string, error) {
	return nil, fmt.Errorf("endpoint: nodes listen on TCP alone on this system: %w", errors.ErrUnsupported)
}

func checkFolder(string) error { return errors.ErrUnsupported }

func prepareFolder(string) error { return errors.ErrUnsupported }

// Error numbers of Winsock that mean that there is no node.
const (
	wsaConnRefused   = syscall.Errno(10061)
	wsaNoAddress     = syscall.Errno(10049)
	wsaNetUnreach    = syscall.Errno(10051)
	wsaNoSuchFamily  = syscall.Errno(10047)
	wsaHostUnreached = syscall.Errno(10065)
)

// nobodyListens tells the absence of a node from other reasons of a failed dial.
func nobodyListens(err error) bool {
	for _, absent := range []error{wsaConnRefused, wsaNoAddress, wsaNetUnreach, wsaNoSuchFamily, wsaHostUnreached} {
		if errors.Is(err, absent) {
			return true
		}
	}
	return false
}
