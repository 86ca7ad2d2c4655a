package link

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// certificateLength stands in place of a length on the control stream: the next
// message is a certificate.
const certificateLength = math.MaxUint32 - 2

// maxCertificateBytes bounds a certificate on the control stream; one that is
// signed with 8192 bits has 1.5 KiB.
const maxCertificateBytes = 4 << 10

// Certificates that a peer may tell on a link: so many at once, so many a second.
// Each one costs the check of a signature.
const (
	freeCertificates          = 16
	freeCertificatesPerSecond = 1
)

// credentials are what a node shows and whom it accepts. They do not change, but
// are replaced as a whole.
type credentials struct {
	network *Network
	leaf    tls.Certificate
	renewed bool // by Rekey: there may be peers that were shown another leaf
}

// A standing is what a link knows of the certificates of its two ends.
type standing struct {
	limit limiter // of the peer's certificates; has its own lock

	mu      sync.Mutex        // guards the fields below; taken before that of an output, after none
	leaf    *x509.Certificate // the last of the peer that was accepted
	offered *x509.Certificate // a later one, of a key that is not accepted yet; nil if there is none
	told    []byte            // the own one that the peer was told last; nil before the link is open
	open    bool              // there is an output to tell it on
}

func newStanding(leaf *x509.Certificate) standing {
	return standing{leaf: leaf, limit: limiter{burst: freeCertificates, perSecond: freeCertificatesPerSecond}}
}

// Rekey replaces the network's keys: from now on handshakes show a certificate
// that the first key of n signed, and accept all keys of n. The node's own key and
// id stay. n has the name of the network before.
//
// Links stay, too: each peer is told the new certificate over its link, and counts
// as certified by it if it accepts that key. A link whose peer has shown no
// certificate of a key in n is closed with ReasonKey.
func (t *Transport) Rekey(n *Network) error {
	before := t.credentials.Load()
	if n.signer().name != before.network.signer().name {
		return errors.New("link: rekey: a node cannot change the name of its network")
	}
	leaf, _, err := n.certify(before.leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return fmt.Errorf("link: rekey: %w", err)
	}
	t.mu.Lock()
	t.credentials.Store(&credentials{network: n, leaf: leaf, renewed: true})
	conns := slices.Collect(maps.Values(t.links))
	t.mu.Unlock()
	for _, c := range conns {
		if err := c.renew(); err != nil {
			c.turnAway(err)
		}
	}
	return nil
}

// PeerKeys tells for each peer with a link which key its certificate is signed
// with. The map is the caller's.
func (t *Transport) PeerKeys() map[ID]KeyID {
	t.mu.Lock()
	conns := slices.Collect(maps.Values(t.links))
	t.mu.Unlock()
	keys := make(map[ID]KeyID)
	for _, c := range conns {
		if c.isUp() {
			keys[c.peer] = c.Key()
		}
	}
	return keys
}

// Key is the key that the peer's certificate is signed with. It is zero while the
// link is being closed because that key is not accepted any more.
func (c *Conn) Key() KeyID {
	c.standing.mu.Lock()
	defer c.standing.mu.Unlock()
	if a := c.t.credentials.Load().network.named(c.standing.leaf); a != nil {
		return a.id
	}
	return KeyID{}
}

// named is the authority that a verified certificate names, nil if it is not one
// of n. Labels are secrets' hashes: what one authority has signed for its own label
// no other has.
func (n *Network) named(leaf *x509.Certificate) *authority {
	for i := range n.authorities {
		if len(leaf.URIs) == 1 && leaf.URIs[0].Host == n.authorities[i].label {
			return &n.authorities[i]
		}
	}
	return nil
}

// stand begins the standing of a link that has just got its place and outputs:
// the keys may have changed since its handshake.
func (c *Conn) stand() error {
	c.standing.mu.Lock()
	c.standing.open = true
	c.standing.mu.Unlock()
	return c.renew()
}

// renew holds a link against the current credentials: the peer is told this node's
// certificate if it has another one, and its own must be of an accepted key. It is
// for connections that have a place; one that gets it later asks by itself.
func (c *Conn) renew() error {
	s := &c.standing
	s.mu.Lock()
	current := c.t.credentials.Load()
	if s.offered != nil && current.network.verify([]*x509.Certificate{s.offered}, c.peer, c.t.id, time.Now()) == nil {
		s.leaf, s.offered = s.offered, nil
	}
	accepted := current.network.named(s.leaf) != nil
	var queued *output
	var err error
	if s.news(current) {
		queued, err = c.control, c.control.appendCertificate(s.told)
	}
	s.mu.Unlock()
	if !accepted {
		c.t.refusals.add(&RefusedError{refusedKey, "the key that the peer's certificate is signed with was removed from this node's file"}, c.addr)
		return &LocalError{ReasonKey}
	}
	if err == ErrFull {
		return &LocalError{ReasonOverflow}
	}
	if queued != nil {
		queued.Flush()
	}
	return nil // or the link has ended
}

// news tells whether the peer has to be told this node's certificate, and notes that
// it was. mu is held until that is queued, so that the peer gets certificates in the
// order in which they were made.
func (s *standing) news(current *credentials) bool {
	own := current.leaf.Certificate[0]
	if !s.open || bytes.Equal(s.told, own) {
		return false
	}
	s.told = own
	return current.renewed // otherwise it is the one of the handshake
}

// appendCertificate queues a certificate: ErrFull if there is no room for it,
// ErrClosed if the link is closed. It writes nothing.
func (o *output) appendCertificate(der []byte) error {
	return o.appendAfter(binary.BigEndian.AppendUint32(nil, certificateLength), der, nil)
}

// readControl reads the control stream: certificates are for the link, all else
// for the handler.
func (c *Conn) readControl(stream io.Reader, in *splitter) {
	certificate := false // the next message is one
	in.mark = func(length uint32) error {
		if length != certificateLength || certificate {
			return fmt.Errorf("mark %x on the control stream", length)
		}
		certificate = true
		return nil
	}
	c.read(stream, in, func(_ *Turn, msg []byte) {
		if !certificate {
			c.t.handler.Control(c, msg)
			return
		}
		certificate = false
		if err := c.recertify(msg); err != nil {
			c.violate(err)
		}
	})
}

// recertify takes a certificate that the peer tells. That it holds the node's
// private key it has proved in the handshake, so a certificate for the same public
// key is as good as a new handshake. One of a key that is not accepted here is kept
// until it is. An error means that the peer broke the rules.
func (c *Conn) recertify(der []byte) error {
	if len(der) > maxCertificateBytes || !c.standing.limit.allow(time.Now()) {
		return errors.New("certificate that is too large or one too many")
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate that cannot be read: %w", err)
	}
	if idOf(leaf) != c.peer {
		return errors.New("certificate of another node")
	}
	s := &c.standing
	s.mu.Lock()
	defer s.mu.Unlock()
	err = c.t.credentials.Load().network.verify([]*x509.Certificate{leaf}, c.peer, c.t.id, time.Now())
	if refused := (*RefusedError)(nil); errors.As(err, &refused) && refused.Word == refusedNetwork {
		s.offered = leaf
		return nil
	}
	if err == nil {
		s.leaf, s.offered = leaf, nil
	}
	return err
}
