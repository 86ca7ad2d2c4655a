package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/project-iris/iris/stack/link"
)

// Types of control messages; the package comment draws them.
const (
	typeHeartbeat = 1
	typePeers     = 2
	typeRecords   = 3
	typeAck       = 4
	typeLeaving   = 5
)

// Limits of control messages.
const (
	maxControl = 1 + 1 + 2 + maxRecords*(recordSize+maxName) // bytes: the longest message there is
	maxPeers   = 1000                                        // entries of a peers message
	maxAddrs   = 4                                           // addresses of such an entry
	maxRecords = 512                                         // entries of a records message
	recordSize = 1 + 1 + 8 + 4                               // bytes, without the name
)

// A message is a parsed control message.
type message interface {
	// receive applies the message to the core. An error means that the peer broke
	// the protocol.
	receive(c *core, p *peer) error
	// appendTo appends the message's bytes.
	appendTo(b []byte) []byte
}

type heartbeat struct{ sequence, echo uint64 }

type peerList []contact

// A contact is a node and where it may be reached.
type contact struct {
	id    link.ID
	addrs []netip.AddrPort
}

type records struct {
	synced bool
	list   []record
}

// A record says how many members of a group a node hosts.
type record struct {
	group   Group
	version uint64
	count   uint32
}

type ack struct{ sequence uint64 }

type leaving struct{}

func (m heartbeat) appendTo(b []byte) []byte {
	b = append(b, typeHeartbeat)
	b = binary.BigEndian.AppendUint64(b, m.sequence)
	return binary.BigEndian.AppendUint64(b, m.echo)
}

func (m peerList) appendTo(b []byte) []byte {
	b = append(b, typePeers)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	for _, c := range m {
		b = append(b, c.id[:]...)
		b = append(b, byte(len(c.addrs)))
		for _, a := range c.addrs {
			b = appendAddr(b, a)
		}
	}
	return b
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap().WithZone("")
	family := byte(6)
	if ip.Is4() {
		family = 4
	}
	b = append(b, family)
	b = append(b, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func (m records) appendTo(b []byte) []byte {
	synced := byte(0)
	if m.synced {
		synced = 1
	}
	b = append(b, typeRecords, synced)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.list)))
	for _, r := range m.list {
		b = append(b, byte(r.group.Kind), byte(len(r.group.Name)))
		b = append(b, r.group.Name...)
		b = binary.BigEndian.AppendUint64(b, r.version)
		b = binary.BigEndian.AppendUint32(b, r.count)
	}
	return b
}

func (m ack) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, typeAck), m.sequence)
}

func (m leaving) appendTo(b []byte) []byte { return append(b, typeLeaving) }

var errMalformed = errors.New("malformed message")

// parseMessage reads one control message. It keeps nothing of b and allocates no
// more than what b's own length accounts for.
func parseMessage(b []byte) (message, error) {
	if len(b) == 0 || len(b) > maxControl {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	var m message
	in := input{b: b[1:]}
	switch b[0] {
	case typeHeartbeat:
		m = heartbeat{in.uint64(), in.uint64()}
	case typePeers:
		m = in.peers()
	case typeRecords:
		m = in.records()
	case typeAck:
		m = ack{in.uint64()}
	case typeLeaving:
		m = leaving{}
	default:
		return nil, fmt.Errorf("%w: unknown type %d", errMalformed, b[0])
	}
	if in.bad || len(in.b) > 0 {
		return nil, fmt.Errorf("%w of type %d", errMalformed, b[0])
	}
	return m, nil
}

// An input is read from the front. Once it was too short or broke a rule it is
// bad, and what it gives is zero.
type input struct {
	b   []byte
	bad bool
}

var zeros [maxName]byte // what a bad input gives; never written

func (in *input) bytes(n int) []byte {
	if in.bad || len(in.b) < n {
		in.bad = true
		return zeros[:n]
	}
	b := in.b[:n]
	in.b = in.b[n:]
	return b
}

func (in *input) byte() byte     { return in.bytes(1)[0] }
func (in *input) uint16() uint16 { return binary.BigEndian.Uint16(in.bytes(2)) }
func (in *input) uint32() uint32 { return binary.BigEndian.Uint32(in.bytes(4)) }
func (in *input) uint64() uint64 { return binary.BigEndian.Uint64(in.bytes(8)) }

// must makes the input bad unless ok.
func (in *input) must(ok bool) bool {
	in.bad = in.bad || !ok
	return !in.bad
}

func (in *input) peers() peerList {
	n := int(in.uint16())
	if !in.must(n <= maxPeers && n*(32+1+7) <= len(in.b)) {
		return nil
	}
	list := make(peerList, 0, n)
	for range n {
		c := contact{id: link.ID(in.bytes(32))}
		a := int(in.byte())
		if !in.must(1 <= a && a <= maxAddrs) {
			return nil
		}
		for range a {
			c.addrs = append(c.addrs, in.addr())
		}
		list = append(list, c)
	}
	return list
}

func (in *input) addr() netip.AddrPort {
	var ip netip.Addr
	switch in.byte() {
	case 4:
		ip = netip.AddrFrom4([4]byte(in.bytes(4)))
	case 6:
		ip = netip.AddrFrom16([16]byte(in.bytes(16)))
		in.must(!ip.Is4In6())
	default:
		in.must(false)
	}
	return netip.AddrPortFrom(ip, in.uint16())
}

func (in *input) records() records {
	synced := in.byte()
	n := int(in.uint16())
	if !in.must(synced <= 1 && n <= maxRecords && n*recordSize <= len(in.b)) {
		return records{}
	}
	m := records{synced == 1, make([]record, 0, n)}
	for range n {
		r := record{in.group(), in.uint64(), in.uint32()}
		in.must(r.count <= math.MaxInt32)
		m.list = append(m.list, r)
	}
	return m
}

func (in *input) group() Group {
	kind := Kind(in.byte())
	size := int(in.byte())
	return Group{kind, string(in.bytes(size))}
}
