package node

import (
	"crypto/sha256"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/link"
)

// mark makes the mark of a network key that probes carry in clear: two bytes of a
// hash of its name, which is one of its public half. It says nothing about the key
// but which it is not.
func mark(key link.KeyID) discovery.Mark {
	sum := sha256.Sum256(append([]byte("iris probe mark\x00"), key[:]...))
	return discovery.Mark(sum[:2])
}
