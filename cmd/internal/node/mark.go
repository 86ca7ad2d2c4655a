package node

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"github.com/project-iris/iris/stack/discovery"
)

// mark makes the mark of a network key that probes carry in clear: two bytes of a
// hash of its public half. It says nothing about the key but which it is not.
func mark(key *rsa.PrivateKey) discovery.Mark {
	sum := sha256.Sum256(append([]byte("iris probe mark\x00"), x509.MarshalPKCS1PublicKey(&key.PublicKey)...))
	return discovery.Mark(sum[:2])
}
