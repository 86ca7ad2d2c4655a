package discovery

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// challengeWindow is how long a nonce is used. An answer counts in the window
// of its probe and in the next one, so for 4 to 8 seconds.
const challengeWindow = 4 * time.Second

// A challenge makes the nonces of probes and recognizes them in answers. A nonce
// is a MAC, under a key that never leaves the process, of the address probed and the current
// window of time. So an answer counts only from an address that was probed just
// now, although nothing is kept per probe and no flood makes anything grow.
// It belongs to one goroutine; challenges of equal key and epoch agree.
type challenge struct {
	signer  *signer
	epoch   time.Time
	message [26]byte // window, address, port
	sum     [32]byte
}

func newChallenge(key []byte, epoch time.Time) *challenge {
	return &challenge{signer: newSigner(key), epoch: epoch}
}

// nonce is what a probe to addr carries now.
func (c *challenge) nonce(now time.Time, addr netip.AddrPort) nonce {
	return c.inWindow(c.window(now), addr)
}

// met tells whether n was the nonce of a recent probe to addr.
func (c *challenge) met(now time.Time, addr netip.AddrPort, n nonce) bool {
	window := c.window(now)
	// Constant time is not needed: n came with a valid MAC, and an insider who
	// forged it would gain no more than by answering.
	return n == c.inWindow(window, addr) || n == c.inWindow(window-1, addr)
}

func (c *challenge) window(now time.Time) uint64 {
	return uint64(now.Sub(c.epoch) / challengeWindow)
}

func (c *challenge) inWindow(window uint64, addr netip.AddrPort) (n nonce) {
	ip := addr.Addr().As16()
	binary.BigEndian.PutUint64(c.message[:], window)
	copy(c.message[8:], ip[:])
	binary.BigEndian.PutUint16(c.message[24:], addr.Port())
	copy(n[:], c.signer.appendMAC(c.sum[:0], c.message[:]))
	return n
}
