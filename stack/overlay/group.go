package overlay

import (
	"crypto/sha256"

	"github.com/project-iris/iris/stack/link"
)

// Kind tells groups of the same name apart.
type Kind uint8

// The kinds of groups. Their values are part of the key, and so of the protocol.
const (
	KindCluster Kind = 1 // services registered under a name
	KindTopic   Kind = 2 // subscribers of a topic
)

// Key names a group: SHA-256 of its kind and name.
type Key [32]byte

// KeyOf is the key of the group with this kind and name: SHA-256 of the kind's
// byte followed by the name.
func KeyOf(kind Kind, name []byte) Key {
	h := sha256.New()
	h.Write([]byte{byte(kind)})
	h.Write(name)
	var k Key
	h.Sum(k[:0])
	return k
}

// Member is a node that hosts Count members of a group; Count is at least 1.
type Member struct {
	Node  link.ID
	Count int
}
