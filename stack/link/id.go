package link

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// ID names a node: the SHA-256 of the public key (SubjectPublicKeyInfo) of its
// leaf certificate. It is fresh at each start.
type ID [32]byte

// String gives the id in lower-case hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Compare orders ids as big-endian numbers: -1, 0 or 1.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// idOf is the id that a certificate's public key gives.
func idOf(cert *x509.Certificate) ID { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }
