package link_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/quicvarint"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// A packetKind is a type of QUIC packet as it is seen on the wire.
type packetKind string

const (
	initial   packetKind = "Initial"
	zeroRTT   packetKind = "0-RTT"
	handshake packetKind = "Handshake"
	retry     packetKind = "Retry"
	oneRTT    packetKind = "1-RTT"
)

// A packet is one of those that a datagram is made of.
type packet struct {
	kind  packetKind
	bytes []byte // within the datagram
}

// packetsOf cuts a datagram into its packets (RFC 9000, 17.2).
func packetsOf(b []byte) []packet {
	var all []packet
	for len(b) > 0 {
		if b[0]&0x80 == 0 {
			return append(all, packet{oneRTT, b})
		}
		kind := [...]packetKind{initial, zeroRTT, handshake, retry}[b[0]>>4&3]
		at := 6 + int(b[5])
		at += 1 + int(b[at])
		if kind == retry {
			return append(all, packet{kind, b})
		}
		if kind == initial {
			token, n, err := quicvarint.Parse(b[at:])
			if err != nil {
				return all
			}
			at += n + int(token)
		}
		length, n, err := quicvarint.Parse(b[at:])
		if err != nil {
			return all
		}
		end := min(len(b), at+n+int(length))
		all = append(all, packet{kind, b[:end]})
		b = b[end:]
	}
	return all
}

// Places in a packet where a man in the middle changes a bit.
var places = map[string]func(b []byte) (at int, bit byte){
	"first byte":    func([]byte) (int, byte) { return 0, 1 },
	"connection id": func([]byte) (int, byte) { return 7, 0x10 },
	"middle":        func(b []byte) (int, byte) { return len(b) / 2, 0x80 },
	"tag":           func(b []byte) (int, byte) { return len(b) - 1, 2 },
}

func TestAChangedByteInAnyPacketIsNeverDelivered(t *testing.T) {
	linktest.Key(t)
	for _, kind := range []packetKind{initial, handshake, oneRTT} {
		for from := range 2 {
			for place, where := range places {
				t.Run(fmt.Sprintf("%s of node %d, %s", kind, from, place), func(t *testing.T) {
					for _, most := range []int{1, 1 << 30} {
						synctest.Test(t, func(t *testing.T) { changeBytes(t, kind, from, most, where) })
					}
				})
			}
		}
	}
}

// changeBytes has node 0 link to node 1 and send, while up to most packets of a
// kind and sender are changed on the way.
func changeBytes(t *testing.T, kind packetKind, from, most int, where func([]byte) (int, byte)) {
	p := runPair(t, linktest.Options{})
	var mu sync.Mutex
	changed := 0
	p.Paths.Watch(func(sender, _ netip.AddrPort, b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, packet := range packetsOf(b) {
			if sender == p.Addr(from) && packet.kind == kind && changed < most {
				at, bit := where(packet.bytes)
				packet.bytes[at] ^= bit
				changed++
			}
		}
		return true
	})
	err := p.dial(t, 0, 1)
	if err == nil {
		for i, c := range []*link.Conn{p.conn(t, 0), p.conn(t, 1)} {
			send(t, c, 0, fmt.Sprint("pay ", i))
		}
	}
	time.Sleep(3 * link.IdleTimeout)
	mu.Lock()
	defer mu.Unlock()
	require.Positive(t, changed)
	if most > 1 {
		require.Error(t, err, "no link comes up")
		require.Zero(t, p.rec[0].Links()+p.rec[1].Links(), "nor stays")
	}
	for i, r := range p.rec {
		if err == nil {
			require.Equal(t, []string{fmt.Sprint("pay ", 1-i)}, r.Messages(), "sent again")
		} else {
			require.Empty(t, r.Messages())
		}
	}
}

func TestIDOfALivePeerCannotBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		// Its certificate is no secret among the nodes of a network. Its key is.
		shown := rawDial(t, p, 1, nil).ConnectionState().TLS.PeerCertificates[0]
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		thief := newRawPeer(t, p.Network, 300, tls.Certificate{Certificate: [][]byte{shown.Raw}, PrivateKey: key})
		q, err := thief.dial(t, 0, link.ALPN)
		if err == nil { // TLS lets the client believe so before the server has checked
			<-q.Context().Done()
		}
		time.Sleep(time.Second)
		require.Equal(t, 1, p.rec[0].Ups())
		require.Empty(t, p.rec[0].Downs())
		send(t, p.conn(t, 1), 0, "still here")
		time.Sleep(time.Second)
		require.Equal(t, []string{"still here"}, p.rec[0].Messages())
	})
}

func TestReplayedInitialsMakeNoLinkAndAmplifyLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		stranger := netip.MustParseAddrPort("10.7.0.1:666")
		var mu sync.Mutex
		var recorded [][]byte
		answered := 0
		p.Paths.Watch(func(from, to netip.AddrPort, b []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if from == p.Addr(0) && packetsOf(b)[0].kind == initial {
				recorded = append(recorded, slices.Clone(b))
			}
			if to == stranger {
				answered += len(b)
			}
			return true
		})
		require.NoError(t, p.dial(t, 0, 1))
		p.conn(t, 0).Close(link.ReasonLeaving)
		time.Sleep(3 * link.IdleTimeout)
		mu.Lock()
		require.NotEmpty(t, recorded)
		initials := slices.Clone(recorded)
		mu.Unlock()
		sent := 0
		for range 50 {
			for _, b := range initials {
				p.Paths.Inject(stranger, p.Addr(1), b)
				sent += len(b)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(3 * link.IdleTimeout)
		mu.Lock()
		defer mu.Unlock()
		require.Positive(t, answered, "the attack is one: the node takes the Initials for a new handshake")
		require.LessOrEqual(t, answered, 3*sent)
		require.Equal(t, 1, p.rec[1].Ups(), "only the first link")
		require.Empty(t, p.rec[1].Messages())
	})
}
