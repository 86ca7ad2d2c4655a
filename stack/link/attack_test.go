package link_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// A forgery makes a certificate with whatever is wrong about it. It knows the
// network's key where the attack needs that.
type forgery struct {
	name string
	word string // counted by the side that verifies
	make func(t *testing.T, n *link.Network) tls.Certificate
}

// signed signs a leaf for a fresh P-256 key with the network's key, after spoil
// has changed it.
func signed(t *testing.T, n *link.Network, spoil func(leaf *x509.Certificate, label string)) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return signedFor(t, n, key, spoil)
}

func signedFor(t *testing.T, n *link.Network, key crypto.Signer, spoil func(leaf *x509.Certificate, label string)) tls.Certificate {
	ca, label := n.CA()
	leaf := link.LeafTemplate(label, idOf(key.Public()))
	spoil(leaf, label)
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), linktest.Key(t))
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func idOf(key crypto.PublicKey) link.ID {
	return sha256.Sum256(must(x509.MarshalPKIXPublicKey(key)))
}

func named(label, id string) []*url.URL {
	return []*url.URL{{Scheme: "iris", Host: label, Path: "/" + id}}
}

func forgeries() []forgery {
	good := nothingWrong
	leafWith := func(spoil func(leaf *x509.Certificate, label string)) func(*testing.T, *link.Network) tls.Certificate {
		return func(t *testing.T, n *link.Network) tls.Certificate { return signed(t, n, spoil) }
	}
	return []forgery{
		{"no certificate", "no-certificate", func(*testing.T, *link.Network) tls.Certificate { return tls.Certificate{} }},
		{"self-signed leaf", "not-of-this-network", func(t *testing.T, n *link.Network) tls.Certificate {
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			_, label := n.CA()
			leaf := link.LeafTemplate(label, idOf(key.Public()))
			leaf.SignatureAlgorithm = x509.ECDSAWithSHA256
			return tls.Certificate{Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key))}, PrivateKey: key}
		}},
		{"wrong key, right name", "not-of-this-network", func(t *testing.T, n *link.Network) tls.Certificate {
			ca, label := n.CA()
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			forged := *ca // claims to be the network's authority, signs with another key
			forged.PublicKey = otherKey().Public()
			leaf := link.LeafTemplate(label, idOf(key.Public()))
			return tls.Certificate{Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, leaf, &forged, key.Public(), otherKey()))}, PrivateKey: key}
		}},
		{"RSA key itself as leaf", "not-of-this-network", func(t *testing.T, n *link.Network) tls.Certificate {
			ca, _ := n.CA()
			return tls.Certificate{Certificate: [][]byte{ca.Raw}, PrivateKey: linktest.Key(t)}
		}},
		{"leaf on the RSA key", "wrong-certificate", func(t *testing.T, n *link.Network) tls.Certificate {
			return signedFor(t, n, otherKey(), good)
		}},
		{"leaf that is a CA", "wrong-certificate", leafWith(func(leaf *x509.Certificate, _ string) { leaf.IsCA = true })},
		{"leaf on another curve", "wrong-certificate", func(t *testing.T, n *link.Network) tls.Certificate {
			return signedFor(t, n, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), good)
		}},
		{"chain of two", "not-one-certificate", func(t *testing.T, n *link.Network) tls.Certificate {
			ca, _ := n.CA()
			c := signed(t, n, good)
			c.Certificate = append(c.Certificate, ca.Raw)
			return c
		}},
		{"expired", "expired", leafWith(func(leaf *x509.Certificate, _ string) {
			leaf.NotAfter = time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC)
		})},
		{"not yet valid", "expired", leafWith(func(leaf *x509.Certificate, _ string) {
			leaf.NotBefore = time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)
		})},
		{"wrong key usage", "wrong-usage", leafWith(func(leaf *x509.Certificate, _ string) { leaf.KeyUsage = x509.KeyUsageCertSign })},
		{"wrong extended key usage", "wrong-usage", leafWith(func(leaf *x509.Certificate, _ string) {
			leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		})},
		{"only for clients", "wrong-usage", leafWith(func(leaf *x509.Certificate, _ string) { leaf.ExtKeyUsage = leaf.ExtKeyUsage[:1] })},
		{"SAN of another network", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) {
			leaf.URIs = named("00000000000000000000000000000000", leaf.URIs[0].Path[1:])
		})},
		{"SAN of another node", "wrong-name", leafWith(func(leaf *x509.Certificate, label string) { leaf.URIs = named(label, link.ID{1}.String()) })},
		{"SAN of another scheme", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) { leaf.URIs[0].Scheme = "spiffe" })},
		{"SAN with a query", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) { leaf.URIs[0].RawQuery = "a=b" })},
		{"two SANs", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) { leaf.URIs = append(leaf.URIs, leaf.URIs[0]) })},
		{"additional DNS name", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) { leaf.DNSNames = []string{"localhost"} })},
		{"no SAN", "wrong-name", leafWith(func(leaf *x509.Certificate, _ string) { leaf.URIs = nil })},
	}
}

// refusedBothWays has node 0 and node 1 of p dial each other, and wants neither
// to get a link.
func refusedBothWays(t *testing.T, p *pair, idOf1 link.ID) {
	t.Helper()
	require.Error(t, p.Transports[0].Dial(t.Context(), idOf1, p.Addr(1)))
	err := p.Transports[1].Dial(t.Context(), p.Transports[0].ID(), p.Addr(0))
	require.Error(t, err)
	time.Sleep(10 * latency)
	for _, r := range p.rec {
		require.Zero(t, r.Ups())
		require.Empty(t, r.Messages())
		require.Empty(t, r.Controls())
	}
}

func TestForgedCertificatesAreRefusedFromEitherSide(t *testing.T) {
	linktest.Key(t)
	otherKey()
	for _, f := range forgeries() {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pair{Network: linktest.New(t, 2, linktest.Options{Latency: latency})}
				forged := f.make(t, linktest.NetworkOf(t, linktest.Name, linktest.Key(t)))
				p.Transports[1].Impersonate(forged)
				for i := range p.rec {
					p.rec[i] = new(linktest.Recorder)
					p.Run(i, p.rec[i])
				}
				synctest.Wait()
				target := link.ID{1}
				if len(forged.Certificate) > 0 {
					target = idOf(must(x509.ParseCertificate(forged.Certificate[0])).PublicKey)
				}
				refusedBothWays(t, p, target)
				refused := p.Transports[0].Refused()
				if len(forged.Certificate) == 0 {
					// TLS has no handshake without a certificate of the server; as client it gets as far as verify.
					require.EqualValues(t, 1, refused[f.word])
					return
				}
				require.EqualValues(t, 2, refused[f.word], "as dialler and as the one dialled: %v", refused)
				require.EqualValues(t, 2, p.Transports[1].Refused()["refused-by-peer"])
			})
		})
	}
}

func TestOtherNetworksAreRefused(t *testing.T) {
	key, other := linktest.Key(t), otherKey()
	for name, stranger := range map[string]*link.Network{
		"wrong key, same name": linktest.NetworkOf(t, linktest.Name, other),
		"same key, other name": linktest.NetworkOf(t, "other", key),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pair{Network: linktest.New(t, 1, linktest.Options{Latency: latency})}
				p.Add(stranger)
				for i := range p.rec {
					p.rec[i] = new(linktest.Recorder)
					p.Run(i, p.rec[i])
				}
				synctest.Wait()
				refusedBothWays(t, p, p.Transports[1].ID())
				// Each verifies the other's certificate when it dials; the one dialled hears that it was refused.
				for _, tr := range p.Transports {
					require.Equal(t, map[string]uint64{"not-of-this-network": 1, "refused-by-peer": 1}, tr.Refused())
				}
			})
		})
	}
}

func TestServerRefusesStrangerThatAcceptsAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The stranger accepts the network's nodes, so the handshake gets as far as its own certificate.
		p := &pair{Network: linktest.New(t, 1, linktest.Options{Latency: latency})}
		stranger := p.Transports[p.Add(linktest.NetworkOf(t, "other", otherKey()))]
		stranger.Accept(linktest.NetworkOf(t, linktest.Name, linktest.Key(t)))
		for i := range p.rec {
			p.rec[i] = new(linktest.Recorder)
			p.Run(i, p.rec[i])
		}
		synctest.Wait()
		err := p.dial(t, 1, 0)
		var refused *link.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "refused-by-peer", refused.Word)
		require.EqualValues(t, 1, p.Transports[0].Refused()["not-of-this-network"])
		require.Zero(t, p.rec[0].Ups()+p.rec[1].Ups())
	})
}

func TestBothKeysOfANetworkAreAcceptedDuringAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{Network: linktest.New(t, 0, linktest.Options{Latency: latency})}
		p.Add(linktest.NetworkOf(t, linktest.Name, linktest.Key(t), otherKey()))
		p.Add(linktest.NetworkOf(t, linktest.Name, otherKey(), linktest.Key(t)))
		for i := range p.rec {
			p.rec[i] = new(linktest.Recorder)
			p.Run(i, p.rec[i])
		}
		synctest.Wait()
		require.NoError(t, p.dial(t, 0, 1))
	})
}

func TestAnotherIDThanTheDialledIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		err := p.Transports[0].Dial(t.Context(), link.ID{42}, p.Addr(1))
		var refused *link.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "wrong-id", refused.Word)
		require.EqualValues(t, 1, p.Transports[0].Refused()["wrong-id"])
		require.Zero(t, p.rec[0].Ups()+p.rec[1].Ups())
	})
}

func TestANodeDoesNotLinkToItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		self := p.Transports[0]
		require.ErrorContains(t, self.Dial(t.Context(), self.ID(), p.Addr(1)), "itself")
		// Its own address under another id: the handshake is with itself.
		err := self.Dial(t.Context(), link.ID{42}, p.Addr(0))
		var refused *link.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "self", refused.Word)
		require.Zero(t, p.rec[0].Ups())
	})
}

func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := countingLog()
		p := runPair(t, linktest.Options{Log: log})
		for range 10 {
			require.Error(t, p.Transports[0].Dial(t.Context(), link.ID{42}, p.Addr(1)))
		}
		require.Equal(t, 1, lines("wrong-id"))
		require.EqualValues(t, 10, p.Transports[0].Refused()["wrong-id"])
		time.Sleep(61 * time.Second)
		require.Error(t, p.Transports[0].Dial(t.Context(), link.ID{42}, p.Addr(1)))
		require.Equal(t, 2, lines("wrong-id"))
	})
}

func TestChangedBytesAreNeverDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		var changed atomic.Int64
		p.Paths.Watch(func(from, _ netip.AddrPort, b []byte) bool {
			if from == p.Addr(0) && changed.Load() < 3 {
				b[len(b)/2] ^= 1
				changed.Add(1)
			}
			return true
		})
		send(t, c, 0, "one", "two", "three")
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 3, changed.Load())
		require.Equal(t, []string{"one", "two", "three"}, p.rec[1].Messages(), "lost packets are sent again, altered ones are lost")

		p.Paths.Watch(func(from, _ netip.AddrPort, b []byte) bool {
			b[len(b)-1] ^= 1
			return true
		})
		send(t, c, 0, "four")
		time.Sleep(3 * link.IdleTimeout)
		require.Len(t, p.rec[1].Messages(), 3)
		require.Zero(t, p.rec[0].Links()+p.rec[1].Links(), "nothing gets through: the link ends")
	})
}

func TestChangedHandshakeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		p.Paths.Watch(func(_, _ netip.AddrPort, b []byte) bool {
			b[len(b)-20] ^= 0x80
			return true
		})
		require.Error(t, p.dial(t, 0, 1))
		require.Zero(t, p.rec[0].Ups()+p.rec[1].Ups())
	})
}

func TestReplayedConversationDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		var mu sync.Mutex
		var recorded [][]byte
		p.Paths.Watch(func(from, _ netip.AddrPort, b []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if from == p.Addr(0) {
				recorded = append(recorded, slices.Clone(b))
			}
			return true
		})
		require.NoError(t, p.dial(t, 0, 1))
		send(t, p.conn(t, 0), 0, "pay once")
		time.Sleep(time.Second)
		replay := func() {
			for _, b := range recorded {
				p.Paths.Inject(p.Addr(0), p.Addr(1), b)
			}
			time.Sleep(time.Second)
		}
		p.Paths.Watch(nil)
		replay() // into the live link
		p.conn(t, 0).Close(link.ReasonLeaving)
		time.Sleep(10 * time.Second)
		replay() // as a new connection
		require.Equal(t, []string{"pay once"}, p.rec[1].Messages())
		require.Equal(t, 1, p.rec[1].Ups())
	})
}

func TestNoSessionTicketsNoZeroRTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		var rec ticketCache
		q := rawDial(t, p, 0, func(c *tls.Config) { c.ClientSessionCache = &rec })
		time.Sleep(time.Second)
		require.Zero(t, rec.puts, "no ticket is ever issued")
		state := q.ConnectionState()
		require.False(t, state.Used0RTT)
		require.False(t, state.TLS.DidResume)
		require.Equal(t, uint16(tls.VersionTLS13), state.TLS.Version)
	})
}

func TestOtherALPNIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		_, err := tryRawDial(t, p, 0, func(c *tls.Config) { c.NextProtos = []string{"h3"} })
		require.Error(t, err)
	})
}

func TestForgedInitialsMeetAddressValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		var mu sync.Mutex
		var initial []byte
		retries, answers := 0, 0
		p.Paths.Watch(func(from, to netip.AddrPort, b []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if from == p.Addr(0) && initial == nil {
				initial = slices.Clone(b)
			}
			if from == p.Addr(1) && to.Port() == 666 {
				answers++
				if b[0]&0xf0 == 0xf0 {
					retries++
				}
			}
			return true
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = p.Transports[0].Dial(ctx, p.Transports[1].ID(), p.Addr(1)) }()
		time.Sleep(20 * latency)
		cancel()
		require.NotNil(t, initial)
		const flood = link.FreeHandshakes + 200
		for i := range flood {
			forged := slices.Clone(initial)
			// A new destination connection id each time makes a new attempt; the payload no longer decrypts,
			// but that is found out later than the decision about the address.
			forged[6], forged[7] = byte(i), byte(i>>8)
			p.Paths.Inject(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 666), p.Addr(1), forged)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.GreaterOrEqual(t, retries, 100, "of %d answers", answers)
	})
}

// nothingWrong leaves a leaf as nodes make it.
func nothingWrong(*x509.Certificate, string) {}
