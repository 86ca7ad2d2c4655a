package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/project-iris/iris/stack/link"
)

// Types of control messages; the package comment draws them.
const (
	typePing    = 1
	typePong    = 2
	typeFind    = 3
	typeFound   = 4
	typeStances = 5
	typeReplica = 6
	typeView    = 7
	typeAck     = 8
	typeMoved   = 9
	typeRelease = 10
	typeKeep    = 11
	typeLeaving = 12
)

// Limits of control messages.
const (
	maxControl  = 1 + 8 + 2 + maxStances*(stanceSize+maxName) // bytes: the longest message there is
	maxFound    = 16                                          // contacts of a found or moved message
	maxAddrs    = 4                                           // addresses of a contact
	maxStances  = 512                                         // entries of a stances message
	maxShares   = 512                                         // groups of a replica message
	maxReplicas = 512                                         // records of a replica message, all groups together
	maxView     = 512                                         // entries of a view message
	shareSize   = 1 + 1 + 1 + 2                               // bytes of a share, without name and records
	stanceSize  = 1 + 1 + 1 + 8 + 4                           // bytes of a stance, without the name
	contactSize = 32 + 1 + 1                                  // bytes of a contact, without addresses
	replicaSize = 32 + 1 + 8 + 4                              // bytes of a replica, without its address
	entrySize   = 32 + 1 + 4                                  // bytes of a view's entry, without its address
)

// A message is a parsed control message.
type message interface {
	// receive applies the message to the core. An error means that the peer broke
	// the protocol.
	receive(c *core, p *peer) error
	// appendTo appends the message's bytes.
	appendTo(b []byte) []byte
}

type (
	ping struct{ sequence uint64 }
	pong struct{ sequence uint64 }
	find struct {
		nonce  uint32
		target link.ID
	}
	found struct {
		nonce uint32
		list  []contactInfo
	}
	stances struct {
		sequence uint64
		list     []stance
	}
	replica struct {
		sequence uint64
		list     []share
	}
	view struct {
		sequence uint64
		first    bool // what was told before is void
		whole    bool
		key      Key
		list     []entry
	}
	ack   struct{ sequence uint64 }
	moved struct {
		key  Key
		list []contactInfo
	}
	release struct{}
	keep    struct{}
	leaving struct{}
)

// A contactInfo is a node, where it may be reached, and how many seconds ago it was
// known to live.
type contactInfo struct {
	id    link.ID
	age   uint8
	addrs []netip.AddrPort
}

// A stance is what a node has to do with a group.
type stance struct {
	group   Group
	watch   bool // it wants views
	gone    bool // it is told elsewhere from now on
	version uint64
	count   uint32 // members that it hosts
}

// A share is what a keeper answers for of a group.
type share struct {
	group   Group
	keeping bool // false: it keeps the group no longer
	anew    bool // it knows nothing yet of what the receiver answers for
	orphans bool // nobody answers for these any more
	list    []replicated
}

// A replicated record says how many members of a group a node hosts.
type replicated struct {
	node    link.ID
	addr    netip.AddrPort // not valid: that of the sender
	version uint64
	count   uint32
}

// An entry of a view is a node that hosts members, or does no longer.
type entry struct {
	node  link.ID
	addr  netip.AddrPort // not valid: that of the sender
	count uint32
}

func (m ping) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, typePing), m.sequence)
}

func (m pong) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, typePong), m.sequence)
}

func (m find) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeFind), m.nonce)
	return append(b, m.target[:]...)
}

func (m found) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeFound), m.nonce)
	return appendContacts(b, m.list)
}

func (m moved) appendTo(b []byte) []byte {
	b = append(append(b, typeMoved), m.key[:]...)
	return appendContacts(b, m.list)
}

func appendContacts(b []byte, list []contactInfo) []byte {
	b = append(b, byte(len(list)))
	for _, c := range list {
		b = append(append(b, c.id[:]...), c.age, byte(len(c.addrs)))
		for _, a := range c.addrs {
			b = appendAddr(b, a)
		}
	}
	return b
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return append(b, 0)
	case ip.Is4():
		b = append(b, 4)
	default:
		b = append(b, 6)
	}
	b = append(b, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func appendGroup(b []byte, g Group) []byte {
	return append(append(b, byte(g.Kind), byte(len(g.Name))), g.Name...)
}

// flags packs booleans into a byte, the first one lowest.
func flags(set ...bool) byte {
	var b byte
	for i, s := range set {
		if s {
			b |= 1 << i
		}
	}
	return b
}

func (m stances) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, typeStances), m.sequence)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.list)))
	for _, s := range m.list {
		b = append(appendGroup(b, s.group), flags(s.watch, s.gone))
		b = binary.BigEndian.AppendUint64(b, s.version)
		b = binary.BigEndian.AppendUint32(b, s.count)
	}
	return b
}

func (m replica) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, typeReplica), m.sequence)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.list)))
	for _, s := range m.list {
		b = append(appendGroup(b, s.group), flags(s.keeping, s.anew, s.orphans))
		b = binary.BigEndian.AppendUint16(b, uint16(len(s.list)))
		for _, r := range s.list {
			b = appendAddr(append(b, r.node[:]...), r.addr)
			b = binary.BigEndian.AppendUint64(b, r.version)
			b = binary.BigEndian.AppendUint32(b, r.count)
		}
	}
	return b
}

func (m view) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, typeView), m.sequence)
	b = append(append(b, flags(m.first, m.whole)), m.key[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.list)))
	for _, e := range m.list {
		b = appendAddr(append(b, e.node[:]...), e.addr)
		b = binary.BigEndian.AppendUint32(b, e.count)
	}
	return b
}

func (m ack) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, typeAck), m.sequence)
}

func (m release) appendTo(b []byte) []byte { return append(b, typeRelease) }
func (m keep) appendTo(b []byte) []byte    { return append(b, typeKeep) }
func (m leaving) appendTo(b []byte) []byte { return append(b, typeLeaving) }
