package link

import (
	"errors"
	"fmt"
)

// errCannotThin is that of a socket or a system without filters.
var errCannotThin = fmt.Errorf("not on this socket: %w", errors.ErrUnsupported)

// ThinProbes has the system drop datagrams that are not QUIC at random, before
// this process is woken for them: of those that have word at offset it keeps one
// in with, of the others one in without. 1 keeps all; 1 and 1 is how a Transport
// begins. While it drops any, it also drops those that end before the word. QUIC is never
// touched. The error is errors.ErrUnsupported where there is no such thing.
func (t *Transport) ThinProbes(offset int, word uint16, with, without uint32) error {
	if err := thinOut(t.socket, offset, word, max(with, 1), max(without, 1)); err != nil {
		return fmt.Errorf("link: thin out probes: %w", err)
	}
	return nil
}
