package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The words under which handshakes that were turned away are counted.
const (
	refusedNoCertificate = "no-certificate"
	refusedChain         = "not-one-certificate"
	refusedNetwork       = "not-of-this-network"
	refusedExpired       = "expired"
	refusedShape         = "wrong-certificate"
	refusedUsage         = "wrong-usage"
	refusedName          = "wrong-name"
	refusedSelf          = "self"
	refusedID            = "wrong-id"
	refusedVersion       = "version"
	refusedHello         = "hello"
	refusedByPeer        = "refused-by-peer"
	refusedKey           = "key-removed"
)

// tlsConfig is the configuration of one handshake with the peer at addr. If want
// is not zero, the peer must have that id.
//
// All checks are in verify, the same for both directions: the client does not
// look for a host name, and the server asks for a certificate but leaves it to
// verify to insist, so that each refusal has its own word.
func (t *Transport) tlsConfig(want ID, addr netip.AddrPort) *tls.Config {
	current := t.credentials.Load()
	return &tls.Config{
		Certificates:           []tls.Certificate{current.leaf},
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		ClientAuth:             tls.RequestClientCert,
		InsecureSkipVerify:     true, // VerifyConnection verifies
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			err := current.network.verify(s.PeerCertificates, want, t.id, time.Now())
			if refused := (*RefusedError)(nil); errors.As(err, &refused) {
				t.refusals.add(refused, addr)
			}
			return err
		},
	}
}

// verify decides whether certs are those of a node of the network with the id
// want (any if zero) that is not self. The error is a *RefusedError.
func (n *Network) verify(certs []*x509.Certificate, want, self ID, now time.Time) error {
	switch len(certs) {
	case 0:
		return &RefusedError{refusedNoCertificate, "the peer shows no certificate"}
	case 1:
	default:
		return &RefusedError{refusedChain, fmt.Sprintf("the peer shows %d certificates instead of one", len(certs))}
	}
	leaf := certs[0]
	a, err := n.issuer(leaf, now)
	if err != nil {
		return err
	}
	if err := checkShape(leaf); err != nil {
		return err
	}
	id := idOf(leaf)
	if leaf.URIs[0].String() != leafTemplate(a.label, id).URIs[0].String() {
		return &RefusedError{refusedName, "the certificate names another network or node than its key"}
	}
	if id == self {
		return &RefusedError{refusedSelf, "that is this node itself"}
	}
	if want != (ID{}) && id != want {
		return &RefusedError{refusedID, fmt.Sprintf("another node answers: %s instead of %s", id, want)}
	}
	return nil
}

// issuer finds the authority that signed leaf.
func (n *Network) issuer(leaf *x509.Certificate, now time.Time) (*authority, error) {
	roots := x509.NewCertPool()
	for i := range n.authorities {
		roots.AddCert(n.authorities[i].cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // checkShape wants exact ones
	})
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return nil, &RefusedError{refusedExpired, "the certificate is not valid at this time: is the clock of this host right?"}
	}
	if err != nil {
		return nil, &RefusedError{refusedNetwork, "the certificate was not signed for this network: the key or the network name is another"}
	}
	for i := range n.authorities {
		if slices.ContainsFunc(chains, func(c []*x509.Certificate) bool {
			return len(c) == 2 && c[1].Equal(n.authorities[i].cert)
		}) {
			return &n.authorities[i], nil
		}
	}
	return nil, &RefusedError{refusedNetwork, "the certificate is an authority, not one of a node"}
}

// checkShape insists that leaf has the one shape of leafTemplate: what nodes
// never make, nobody may show.
func checkShape(leaf *x509.Certificate) error {
	shape := func(what string) error { return &RefusedError{refusedShape, what} }
	key, isECDSA := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case leaf.IsCA || !leaf.BasicConstraintsValid:
		return shape("the certificate is that of an authority")
	case !isECDSA || key.Curve != elliptic.P256():
		return shape("the certificate's key is not on P-256")
	case leaf.SignatureAlgorithm != x509.SHA256WithRSA:
		return shape("the certificate is not signed with RSA and SHA-256")
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature,
		len(leaf.UnknownExtKeyUsage) > 0,
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}):
		return &RefusedError{refusedUsage, "the certificate is for another use"}
	case len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses) > 0:
		return &RefusedError{refusedName, "the certificate does not have exactly one name"}
	}
	return nil
}
