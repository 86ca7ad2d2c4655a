package link_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// network is the pair's network with other keys.
func network(t *testing.T, keys ...*rsa.PrivateKey) *link.Network {
	t.Helper()
	return linktest.NetworkOf(t, linktest.Name, keys...)
}

// rekey gives node i other keys and lets its peer hear of it.
func (p *pair) rekey(t *testing.T, i int, keys ...*rsa.PrivateKey) {
	t.Helper()
	require.NoError(t, p.Transports[i].Rekey(network(t, keys...)))
	time.Sleep(10 * latency)
	synctest.Wait()
}

// keyOfPeer is the key that node i's peer is certified by, zero without a link.
func (p *pair) keyOfPeer(i int) link.KeyID {
	return p.Transports[i].PeerKeys()[p.Transports[1-i].ID()]
}

func TestKeyIDIsTheHashOfThePublicKey(t *testing.T) {
	sum := sha256.Sum256(must(x509.MarshalPKIXPublicKey(linktest.Key(t).Public())))
	ids := network(t, otherKey(), linktest.Key(t)).Keys()
	require.Len(t, ids, 2)
	require.Equal(t, link.KeyID(sum), ids[1])
	require.Equal(t, hex.EncodeToString(sum[:])[:8], ids[1].String())
}

func TestNetworkChangesItsKeyWithoutLosingAMessage(t *testing.T) {
	before, after := linktest.Key(t), otherKey()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		oldID, newID := network(t, before).Keys()[0], network(t, after).Keys()[0]
		ids := [2]link.ID{p.Transports[0].ID(), p.Transports[1].ID()}
		c := p.conn(t, 0)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		sent := 0
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(latency / 10):
					send(t, c, uint64(sent), fmt.Sprint(sent))
					sent++
				}
			}
		})
		phases := [][]*rsa.PrivateKey{{before, after}, {after, before}, {after}}
		for phase, keys := range phases {
			for i := range 2 {
				p.rekey(t, i, keys...)
			}
			want := newID
			if phase == 0 {
				want = oldID
			}
			require.Equal(t, want, p.keyOfPeer(0), "phase %d", phase+1)
			require.Equal(t, want, p.keyOfPeer(1), "phase %d", phase+1)
			require.Equal(t, want, p.conn(t, 1).Key())
		}
		close(stop)
		wg.Wait()
		time.Sleep(time.Second)
		require.Greater(t, sent, 100)
		require.Len(t, p.rec[1].Messages(), sent)
		require.Equal(t, 1, p.rec[0].Ups(), "it is the same link")
		require.Empty(t, p.rec[0].Downs())
		require.Equal(t, ids, [2]link.ID{p.Transports[0].ID(), p.Transports[1].ID()})

		// New links are made with the new key alone.
		p.conn(t, 0).Close(link.ReasonNone)
		time.Sleep(10 * latency)
		require.NoError(t, p.dial(t, 1, 0))
		require.Equal(t, newID, p.keyOfPeer(0))
		require.Empty(t, p.Transports[0].Refused())
	})
}

func TestRemovedKeyCutsTheLinkThatUsesIt(t *testing.T) {
	before, after := linktest.Key(t), otherKey()
	for remover := range 2 { // the one that has dialled, the one that was
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, linktest.Options{})
			p.rekey(t, 1-remover, before, after) // accepts the new key, but still signs with the old
			p.rekey(t, remover, after)
			require.Len(t, p.rec[0].Downs(), 1)
			require.Len(t, p.rec[1].Downs(), 1)
			require.ErrorIs(t, p.rec[0].Downs()[0], link.ReasonKey)
			require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonKey)
			require.Equal(t, uint64(1), p.Transports[remover].Refused()["key-removed"])
			require.Zero(t, p.keyOfPeer(0))
			for from := range 2 {
				require.Error(t, p.dial(t, from, 1-from), "the old key is of no use any more")
			}
			// It signs with the new key: it is let in again.
			p.rekey(t, 1-remover, after)
			require.NoError(t, p.dial(t, 0, 1))
		})
	}
}

func TestCertificateOfAKeyThatIsNotKnownYetCountsLater(t *testing.T) {
	before, after := linktest.Key(t), otherKey()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		oldID, newID := network(t, before).Keys()[0], network(t, after).Keys()[0]
		p.rekey(t, 0, after, before) // too early: node 1 does not know the new key
		require.Equal(t, oldID, p.keyOfPeer(1))
		p.rekey(t, 1, before, after)
		require.Equal(t, newID, p.keyOfPeer(1))
		p.rekey(t, 1, after)
		require.Equal(t, newID, p.keyOfPeer(0))
		require.Empty(t, p.rec[0].Downs())
		require.Empty(t, p.rec[1].Downs())
	})
}

func TestKeysThatChangeWhileALinkIsMadeAreToldOnIt(t *testing.T) {
	before, after := linktest.Key(t), otherKey()
	// Every point of a handshake of some four flights.
	for step := range 16 {
		synctest.Test(t, func(t *testing.T) {
			p := runPair(t, linktest.Options{})
			p.rekey(t, 0, before, after)
			p.rekey(t, 1, before, after)
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(time.Duration(step) * latency / 2)
				for _, tr := range p.Transports {
					require.NoError(t, tr.Rekey(network(t, after)))
				}
			})
			_ = p.dial(t, 0, 1)
			wg.Wait()
			time.Sleep(time.Second)
			// Either the link was refused or cut, or it stands under the new key.
			for i := range 2 {
				if len(p.rec[i].Downs()) < p.rec[i].Ups() {
					require.Equal(t, network(t, after).Keys()[0], p.keyOfPeer(i), "step %d", step)
				}
			}
			require.NoError(t, p.dial(t, 1, 0))
			require.Equal(t, network(t, after).Keys()[0], p.keyOfPeer(0))
		})
	}
}

func TestRekeyNeedsTheSameName(t *testing.T) {
	linktest.Key(t)
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		require.ErrorContains(t, p.Transports[0].Rekey(linktest.NetworkOf(t, "other", linktest.Key(t))), "name")
	})
}

func TestPeerThatTellsAForeignCertificateLosesItsLink(t *testing.T) {
	key := linktest.Key(t)
	stranger := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	foreign := signed(t, network(t, key), nothingWrong).Certificate[0]
	self := &x509.Certificate{SerialNumber: otherKey().N}
	selfSigned := must(x509.CreateCertificate(rand.Reader, self, self, stranger.Public(), stranger))
	certificate := func(der []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, 0xfffffffd)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(der))), der...)
	}
	for name, raw := range map[string][]byte{
		"of another node":       certificate(foreign),
		"self-signed":           certificate(selfSigned),
		"garbage":               certificate([]byte("garbage")),
		"empty":                 certificate(nil),
		"too large":             certificate(make([]byte, 5<<10)),
		"announced twice":       append([]byte{0xff, 0xff, 0xff, 0xfd}, certificate(foreign)...),
		"length bomb":           {0xff, 0xff, 0xff, 0xfd, 0x7f, 0xff, 0xff, 0xff},
		"mark on the control":   {0xff, 0xff, 0xff, 0xff},
		"echo on the control":   {0xff, 0xff, 0xff, 0xfe},
		"no length on any lane": {0xff, 0xff, 0xff, 0xfc},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, linktest.Options{})
				link.WriteControl(p.conn(t, 0), raw)
				time.Sleep(10 * latency)
				require.Len(t, p.rec[1].Downs(), 1)
				require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonProtocol)
			})
		})
	}
}

func TestPeerThatTellsTooManyCertificatesLosesItsLink(t *testing.T) {
	linktest.Key(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		for range 16 {
			link.TellCertificate(p.conn(t, 0))
		}
		time.Sleep(10 * latency)
		require.Empty(t, p.rec[1].Downs())
		link.TellCertificate(p.conn(t, 0))
		time.Sleep(10 * latency)
		require.Len(t, p.rec[1].Downs(), 1)
	})
}

func TestCertificateOnALaneEndsTheLink(t *testing.T) {
	linktest.Key(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		link.WriteLane(p.conn(t, 0), []byte{0xff, 0xff, 0xff, 0xfd})
		time.Sleep(10 * latency)
		require.Len(t, p.rec[1].Downs(), 1)
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonProtocol)
	})
}
