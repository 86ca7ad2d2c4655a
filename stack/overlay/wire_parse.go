package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/project-iris/iris/stack/link"
)

var errMalformed = errors.New("malformed message")

// parseMessage reads one control message. It keeps nothing of b and allocates no
// more than what b's own length accounts for.
func parseMessage(b []byte) (message, error) {
	if len(b) == 0 || len(b) > maxControl {
		return nil, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	in := input{b: b[1:]}
	m := in.message(b[0])
	if m == nil {
		return nil, fmt.Errorf("%w: unknown type %d", errMalformed, b[0])
	}
	if in.bad || len(in.b) > 0 {
		return nil, fmt.Errorf("%w of type %d", errMalformed, b[0])
	}
	return m, nil
}

func (in *input) message(kind byte) message {
	switch kind {
	case typePing:
		return ping{in.uint64()}
	case typePong:
		return pong{in.uint64()}
	case typeFind:
		return find{in.uint32(), link.ID(in.bytes(32))}
	case typeFound:
		return found{in.uint32(), in.contacts()}
	case typeStances:
		return in.stances()
	case typeReplica:
		return in.replica()
	case typeView:
		return in.view()
	case typeAck:
		return ack{in.uint64()}
	case typeMoved:
		return moved{Key(in.bytes(32)), in.contacts()}
	case typeRelease:
		return release{}
	case typeKeep:
		return keep{}
	case typeLeaving:
		return leaving{}
	}
	return nil
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

// flags reads a byte of which only n bits may be set.
func (in *input) flags(n int) byte {
	b := in.byte()
	in.must(b < 1<<n)
	return b
}

// size reads the number of entries that follow, each of at least so many bytes.
func (in *input) size(most, each int) int {
	n := int(in.uint16())
	if !in.must(n <= most && n*each <= len(in.b)) {
		return 0
	}
	return n
}

// count reads a number of members.
func (in *input) count() uint32 {
	n := in.uint32()
	in.must(n <= math.MaxInt32)
	return n
}

func (in *input) contacts() []contactInfo {
	n := int(in.byte())
	if !in.must(n <= maxFound && n*(contactSize+7) <= len(in.b)) {
		return nil
	}
	list := make([]contactInfo, 0, n)
	for range n {
		c := contactInfo{id: link.ID(in.bytes(32)), age: in.byte()}
		a := int(in.byte())
		if !in.must(1 <= a && a <= maxAddrs) {
			return nil
		}
		for range a {
			addr := in.addr()
			in.must(addr.IsValid())
			c.addrs = append(c.addrs, addr)
		}
		list = append(list, c)
	}
	return list
}

// addr reads an address, or none.
func (in *input) addr() netip.AddrPort {
	var ip netip.Addr
	switch in.byte() {
	case 0:
		return netip.AddrPort{}
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

func (in *input) group() Group {
	kind := Kind(in.byte())
	size := int(in.byte())
	return Group{kind, string(in.bytes(size))}
}

func (in *input) stances() stances {
	m := stances{sequence: in.uint64()}
	n := in.size(maxStances, stanceSize)
	m.list = make([]stance, 0, n)
	for range n {
		s := stance{group: in.group()}
		f := in.flags(2)
		s.watch, s.gone, s.version, s.count = f&1 != 0, f&2 != 0, in.uint64(), in.count()
		in.must(!s.gone || !s.watch && s.count == 0)
		m.list = append(m.list, s)
	}
	return m
}

func (in *input) replica() replica {
	m := replica{sequence: in.uint64()}
	shares := in.size(maxShares, shareSize)
	m.list = make([]share, 0, shares)
	for left := maxReplicas; shares > 0; shares-- {
		s := share{group: in.group()}
		f := in.flags(3)
		s.keeping, s.anew, s.orphans = f&1 != 0, f&2 != 0, f&4 != 0
		n := in.size(left, replicaSize)
		in.must(s.keeping || !s.anew && !s.orphans && n == 0)
		left -= n
		s.list = make([]replicated, 0, n)
		for range n {
			s.list = append(s.list, replicated{link.ID(in.bytes(32)), in.addr(), in.uint64(), in.count()})
		}
		m.list = append(m.list, s)
	}
	return m
}

func (in *input) view() view {
	m := view{sequence: in.uint64()}
	f := in.flags(2)
	m.first, m.whole, m.key = f&1 != 0, f&2 != 0, Key(in.bytes(32))
	n := in.size(maxView, entrySize)
	m.list = make([]entry, 0, n)
	for range n {
		m.list = append(m.list, entry{link.ID(in.bytes(32)), in.addr(), in.count()})
	}
	return m
}
