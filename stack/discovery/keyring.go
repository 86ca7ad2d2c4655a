package discovery

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync/atomic"
)

// minSecret is the least length of a secret in bytes.
const minSecret = 16

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

// A keySet is the MAC keys of a network, and the mark of the first.
type keySet struct {
	mark    Mark
	secrets [][]byte
}

// SetSecrets replaces the MAC keys of a running Prober: from now on the first
// signs probes, with its mark, and all are accepted. It keeps no reference to the
// slices. If it fails, nothing has changed.
func (p *Prober) SetSecrets(mark Mark, secrets [][]byte) error {
	if len(secrets) == 0 {
		return errors.New("discovery: no secret to sign probes with")
	}
	copies := make([][]byte, len(secrets))
	for i, s := range secrets {
		if len(s) < minSecret {
			return fmt.Errorf("discovery: secret %d has %d bytes: want at least %d", i+1, len(s), minSecret)
		}
		copies[i] = slices.Clone(s)
	}
	p.keys.Store(&keySet{mark, copies})
	return nil
}

// A keyringOf is one goroutine's keyring of secrets that others may replace.
type keyringOf struct {
	from *atomic.Pointer[keySet]
	of   *keySet // what keys was made of
	keys keyring
}

// current is the keyring of the secrets there are now.
func (k *keyringOf) current() keyring {
	if set := k.from.Load(); set != k.of {
		k.of, k.keys = set, newKeyring(set.secrets)
	}
	return k.keys
}
