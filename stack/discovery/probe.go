// Package discovery finds the addresses of nodes that know the secret of a network,
// by sending small authenticated datagrams, probes, to every address of
// the subnets it is given. It needs no multicast, but is faster where there is some.
//
// It promises hints: whoever is reported knew a secret of the network at
// some time, and a datagram came from that address. A probe can be recorded and
// replayed from elsewhere, so trust begins where the reported address is dialled
// and proves its identity. Whoever does not know a secret gets silence.
//
// A probe and the answer to it have the same fixed size, so that nobody is sent
// more bytes than came in under his address:
//
//	     0               1               2               3
//	   +---------------+---------------+---------------+---------------+
//	 0 | 0x07          | 'I'           | 'R'           | 'S'           |
//	   +---------------+---------------+---------------+---------------+
//	 4 | version = 1   | kind          | mark of the signing key       |
//	   +---------------+---------------+---------------+---------------+
//	 8 | nonce, 24 bytes: chosen by the prober, echoed by the answer   |
//	   +---------------+---------------+---------------+---------------+
//	32 | node id of the sender, 32 bytes                               |
//	   +---------------+---------------+---------------+---------------+
//	64 | HMAC-SHA-256 of bytes 0 to 63 under a secret of the network   |
//	   +---------------+---------------+---------------+---------------+
//	96
//
// Kind is 1 for a probe, 2 for an answer and 3 for a call. The first byte is below 0x40, which no QUIC packet
// has, so both share one UDP port. Several secrets may be in use: probes are signed with the first, all
// are accepted, and an answer is signed with the secret of its probe.
//
// The mark is two bytes that networks with the same key share, whatever their names. It proves
// nothing and is believed for diagnosis only: who cannot check the MAC can tell a foreign key from a
// foreign name. A node without a key's mark sends zero. In a flood of what has to be turned away, the system is
// asked to drop most of it unseen, apart for datagrams with the mark and those without, so that strangers who
// have never overheard a probe disturb nobody who has the mark.
//
// A probe may go to a broadcast address; the answers count then if they come from its subnet.
//
// The nonce is a MAC of the address probed and the time, so that answers
// are checked without remembering what was sent (see challenge).
//
// A call says "a node of your network listens there", to everybody on an interface at once: it goes
// to the IPv6 group ff12::4952:4953 of that link, UDP port 23550, with an IPv4 address in place of the nonce:
//
//	   +---------------+---------------+---------------+---------------+
//	 8 | IPv4 address of the caller on that interface                  |
//	   +---------------+---------------+---------------+---------------+
//	12 | its UDP port                  | 18 random bytes               |
//	   +---------------+---------------+---------------+---------------+
//
// A call is not answered and finds nobody by itself. Who hears one probes the address in it, at a bounded rate
// and only if it is of a subnet of the interface that the call came in by; the rest is up to the answer. So IPv6
// tells no more than where to probe first: where it is missing or filtered, discovery is slower and nothing else. Calls and
// probes are refused on each other's socket.
//
// A [Prober] is safe for concurrent use.
package discovery

// Size is the length of every probe, every answer and every call in bytes.
const Size = 96

const (
	version = 1

	offsetVersion = 4
	offsetKind    = 5
	offsetMark    = 6
	offsetNonce   = 8
	offsetID      = 32
	offsetMAC     = 64
)

// magic opens every datagram: a bell, and the name of who rings it.
const magic = "\x07IRS"

// A kind tells probes, answers and calls apart.
type kind byte

const (
	kindProbe  kind = 1
	kindAnswer kind = 2
	kindCall   kind = 3
)

// A nonce ties an answer to a probe.
type nonce [offsetID - offsetNonce]byte

// A probe is the content of a datagram without its MAC.
type probe struct {
	kind  kind
	nonce nonce
	id    [32]byte
	mark  Mark
}

// A Mark tells keys apart without proving anything.
type Mark [offsetNonce - offsetMark]byte

// appendProbe appends p as a datagram, signed with s, to b.
func appendProbe(b []byte, p probe, s *signer) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, version, byte(p.kind))
	b = append(b, p.mark[:]...)
	b = append(b, p.nonce[:]...)
	b = append(b, p.id[:]...)
	return s.appendMAC(b, b[start:])
}

// parseProbe reads a datagram but does not check its MAC: that is dear, and
// everything cheap comes first. The reason is accepted or why b is no probe.
func parseProbe(b []byte) (probe, reason) {
	switch {
	case len(b) != Size:
		return probe{}, refusedSize
	case string(b[:offsetVersion]) != magic:
		return probe{}, refusedMagic
	case b[offsetVersion] != version:
		return probe{}, refusedVersion
	}
	p := probe{kind: kind(b[offsetKind])}
	if p.kind < kindProbe || p.kind > kindCall {
		return probe{}, refusedKind
	}
	copy(p.mark[:], b[offsetMark:])
	copy(p.nonce[:], b[offsetNonce:])
	copy(p.id[:], b[offsetID:])
	return p, accepted
}
