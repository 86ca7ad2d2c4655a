package overlay

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"github.com/project-iris/iris/stack/link"
)

// Kind tells groups of the same name apart.
type Kind uint8

// The kinds of groups. Their values are part of the key, and so of the protocol.
const (
	KindCluster Kind = 1 // services registered under a name
	KindTopic   Kind = 2 // subscribers of a topic
)

// maxName is the longest name of a group, in bytes.
const maxName = 255

// A Group is what nodes host members of. Its name has at most 255 bytes.
type Group struct {
	Kind Kind
	Name string
}

// Key is the key of the group.
func (g Group) Key() Key { return KeyOf(g.Kind, []byte(g.Name)) }

// compare orders groups by kind and name.
func (g Group) compare(other Group) int {
	return cmp.Or(cmp.Compare(g.Kind, other.Kind), cmp.Compare(g.Name, other.Name))
}

// A GroupInfo is a group with all its members that a node knows of.
type GroupInfo struct {
	Group
	Members []Member // this node included; sorted by id; at least one
}

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

// Groups lists the groups with members that this node hosts, watches or keeps,
// sorted by kind and name. It waits for the loop of Run, so a Handler may not call it; when
// Run has ended there are none. The result is the caller's.
func (o *Overlay) Groups() []GroupInfo {
	answer := make(chan []GroupInfo, 1)
	select {
	case o.queries <- answer:
	case <-o.stopped:
		return nil
	}
	all := <-answer // the loop answers at once
	slices.SortFunc(all, func(a, b GroupInfo) int { return a.compare(b.Group) })
	return all
}

// groupInfos copies what the core knows, unsorted.
func (c *core) groupInfos() []GroupInfo {
	all := make([]GroupInfo, 0, len(c.groups))
	for _, g := range c.groups {
		info := GroupInfo{Group: g.Group}
		if g.kept != nil {
			for _, r := range g.kept.members {
				info.Members = append(info.Members, Member{r.node, int(r.count)})
			}
		} else {
			for _, e := range g.entries {
				info.Members = append(info.Members, Member{e.node, int(e.count)})
			}
		}
		i, found := slices.BinarySearchFunc(info.Members, c.self, func(m Member, id link.ID) int { return m.Node.Compare(id) })
		if g.count > 0 && !found {
			info.Members = slices.Insert(info.Members, i, Member{c.self, int(g.count)})
		}
		if len(info.Members) > 0 {
			all = append(all, info)
		}
	}
	return all
}
