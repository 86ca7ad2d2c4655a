package discovery

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// A signer makes and checks MACs under one secret without allocating. It
// belongs to one goroutine.
type signer struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newSigner(secret []byte) *signer {
	return &signer{mac: hmac.New(sha256.New, secret)}
}

// appendMAC appends the MAC of message to b.
func (s *signer) appendMAC(b, message []byte) []byte {
	s.mac.Reset()
	s.mac.Write(message)
	return s.mac.Sum(b)
}

// made tells, in constant time, whether mac is the MAC of message.
func (s *signer) made(mac, message []byte) bool {
	return hmac.Equal(mac, s.appendMAC(s.sum[:0], message))
}

// A keyring holds a signer for each secret of the network, the one that signs
// probes first. It belongs to one goroutine.
type keyring []*signer

func newKeyring(secrets [][]byte) keyring {
	k := make(keyring, len(secrets))
	for i, secret := range secrets {
		k[i] = newSigner(secret)
	}
	return k
}

// signerOf finds who signed the datagram b of Size bytes, nil if nobody known.
func (k keyring) signerOf(b []byte) *signer {
	for _, s := range k {
		if s.made(b[offsetMAC:], b[:offsetMAC]) {
			return s
		}
	}
	return nil
}
