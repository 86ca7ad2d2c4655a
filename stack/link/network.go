package link

import (
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Sizes of an RSA key that a network accepts, in bits.
const (
	minKeyBits = 2048
	maxKeyBits = 8192
)

// maxNameBytes bounds the name of a network.
const maxNameBytes = 255

// Network is who belongs together: a name and one or more RSA keys, of which the
// first signs and all are accepted. It does not change and is safe for
// concurrent use.
type Network struct {
	authorities []authority
}

// KeyID names a network's key: the SHA-256 of its public key
// (SubjectPublicKeyInfo), which `openssl pkey -pubout -outform DER` prints.
type KeyID [32]byte

// String gives the first 8 hex digits, which tell a network's few keys apart.
func (id KeyID) String() string { return hex.EncodeToString(id[:4]) }

// An authority is what a network derives from one of its keys.
type authority struct {
	key   *rsa.PrivateKey
	label string // names key and network name without telling either
	cert  *x509.Certificate
	id    KeyID
	seed  []byte // input of the derivation of secrets
	name  string
}

// NewNetwork derives what nodes of the network called name have in common. The
// name is 1 to 255 bytes, a key 2048 to 8192 bits. A key given twice counts
// once.
func NewNetwork(name string, keys ...*rsa.PrivateKey) (*Network, error) {
	if name == "" || len(name) > maxNameBytes {
		return nil, fmt.Errorf("link: the name of a network has 1 to %d bytes, not %d", maxNameBytes, len(name))
	}
	if len(keys) == 0 {
		return nil, errors.New("link: a network needs an RSA private key: make one with `iris keygen`")
	}
	n := &Network{}
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("link: key %d of network %q: %w", i+1, name, err)
		}
		if slices.ContainsFunc(n.authorities, func(a authority) bool { return a.key.Equal(key) }) {
			continue
		}
		a, err := newAuthority(name, key)
		if err != nil {
			return nil, fmt.Errorf("link: key %d of network %q: %w", i+1, name, err)
		}
		n.authorities = append(n.authorities, a)
	}
	return n, nil
}

func newAuthority(name string, key *rsa.PrivateKey) (authority, error) {
	a := authority{key: key, seed: keySeed(key.Primes), name: name}
	label, err := a.derive("network label", 16)
	if err != nil {
		return authority{}, err
	}
	a.label = hex.EncodeToString(label)
	if a.cert, err = newCACertificate(key, a.label); err != nil {
		return authority{}, err
	}
	a.id = sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
	return a, nil
}

// keySeed is the canonical form of a private key: PKCS#1 bytes are not, because
// they depend on the order of the primes. Each prime is preceded by its length.
func keySeed(primes []*big.Int) []byte {
	var seed []byte
	for _, p := range slices.SortedFunc(slices.Values(primes), (*big.Int).Cmp) {
		b := p.Bytes()
		seed = binary.BigEndian.AppendUint32(seed, uint32(len(b)))
		seed = append(seed, b...)
	}
	return seed
}

// derive gives a secret of the key for a purpose, bound to the network's name.
func (a *authority) derive(purpose string, size int) ([]byte, error) {
	secret, err := hkdf.Key(sha256.New, a.seed, []byte(a.name), "iris "+purpose, size)
	if err != nil {
		return nil, fmt.Errorf("derive %s: %w", purpose, err)
	}
	return secret, nil
}

// Secrets derives one 32-byte secret per key for a purpose; that of the signing
// key is the first. Different purposes, names and keys give unrelated secrets.
func (n *Network) Secrets(purpose string) [][]byte {
	secrets := make([][]byte, len(n.authorities))
	for i := range n.authorities {
		secret, err := n.authorities[i].derive("secret "+purpose, 32)
		if err != nil {
			panic(err) // HKDF fails only for sizes above 255 hashes
		}
		secrets[i] = secret
	}
	return secrets
}

// Keys names the keys of the network: the first signs, all are accepted.
func (n *Network) Keys() []KeyID {
	ids := make([]KeyID, len(n.authorities))
	for i := range n.authorities {
		ids[i] = n.authorities[i].id
	}
	return ids
}

// signer is the authority that signs this node's leaf.
func (n *Network) signer() *authority { return &n.authorities[0] }

// checkKey refuses a key that no network can use.
func checkKey(key *rsa.PrivateKey) error {
	if key == nil || key.N == nil {
		return errors.New("there is no key")
	}
	if bits := key.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return &KeySizeError{Bits: bits}
	}
	if err := key.Validate(); err != nil {
		return fmt.Errorf("the key is damaged (%w): use the original file, or make a new key with `iris keygen`", err)
	}
	return nil
}
