package link

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

// What the attack tests forge with.

// CA gives the CA certificate of the network's signing key and its label.
func (n *Network) CA() (*x509.Certificate, string) { return n.signer().cert, n.signer().label }

// LeafTemplate is the shape of a good leaf.
func LeafTemplate(label string, id ID) *x509.Certificate { return leafTemplate(label, id) }

// Impersonate makes t show another certificate. To be called before Run.
func (t *Transport) Impersonate(cert tls.Certificate) {
	t.credentials.Store(&credentials{network: t.credentials.Load().network, leaf: cert})
}

// Accept makes t accept whoever is of another network. To be called before Run.
func (t *Transport) Accept(n *Network) {
	t.credentials.Store(&credentials{network: n, leaf: t.credentials.Load().leaf})
}

// The protocol's limits.
const (
	LaneLimit      = laneLimit
	FreeHandshakes = freeHandshakes
	IdleTimeout    = idleTimeout
	BrokenPause    = brokenPause
	MaxStreams     = maxStreams
	ALPN           = alpn
	StreamsALPN    = streamsALPN
)

// SegmentationOffload tells whether a link sends with GSO.
func SegmentationOffload(c *Conn) bool { return c.quic.ConnectionState().GSO }

// TLSForBenchmarks is the configuration of a node for QUIC without links.
func TLSForBenchmarks(tb testing.TB, n *Network) *tls.Config {
	leaf, _, err := newLeaf(n)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{alpn}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}

// BreakTrunk ends the trunk of a link.
func BreakTrunk(c *Conn) { _ = c.trunks.present().quic.CloseWithError(0, "") }

// WarnOfSmallBuffer and ReceiveBufferOf are what New uses.
var (
	WarnOfSmallBuffer = warnOfSmallBuffer
	ReceiveBufferOf   = receiveBufferOf
)

// WriteControlRaw writes bytes to the control stream that need not be messages.
func WriteControlRaw(c *Conn, b []byte) { _, _ = c.control.w.Write(b) }

// WriteRaw writes bytes to a stream that need not be messages.
func WriteRaw(s *Stream, b []byte) { _, _ = s.quic.Write(b) }
