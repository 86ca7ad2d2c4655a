package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// scheme is that of the name in a leaf: iris://<label>/<node id>.
const scheme = "iris"

// The dates of every certificate. They are wide because they protect nothing
// (see the package comment), and fixed because every node must rebuild the same
// CA certificate; hosts without a clock battery start in 1970.
func validity() (from, until time.Time) {
	return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2199, 12, 31, 23, 59, 59, 0, time.UTC)
}

// newCACertificate rebuilds the CA certificate of key and label. It is the same
// on every node: PKCS#1 v1.5 signatures are deterministic and all else is fixed.
// The label is the subject, so that the same key under another network name is
// another authority.
func newCACertificate(key *rsa.PrivateKey, label string) (*x509.Certificate, error) {
	from, until := validity()
	keyID := sha256.Sum256(key.N.Bytes())
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "iris " + label},
		NotBefore:             from,
		NotAfter:              until,
		SubjectKeyId:          keyID[:20],
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            0,
		MaxPathLenZero:        true,
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the CA certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// newLeaf makes a node's key and has its certificate signed by the network.
func newLeaf(n *Network) (tls.Certificate, ID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, ID{}, fmt.Errorf("make the node's key: %w", err)
	}
	return n.certify(key)
}

// certify signs the certificate of a node's key. Other signers give other
// certificates, but the same id.
func (n *Network) certify(key *ecdsa.PrivateKey) (tls.Certificate, ID, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return tls.Certificate{}, ID{}, fmt.Errorf("encode the node's public key: %w", err)
	}
	id := ID(sha256.Sum256(spki))
	a := n.signer()
	der, err := x509.CreateCertificate(rand.Reader, leafTemplate(a.label, id), a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, ID{}, fmt.Errorf("sign the node's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, ID{}, fmt.Errorf("read the node's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, id, nil
}

// leafTemplate is the one shape of leaf that verify accepts.
func leafTemplate(label string, id ID) *x509.Certificate {
	from, until := validity()
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(id[:16]),
		NotBefore:             from,
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{{Scheme: scheme, Host: label, Path: "/" + id.String()}},
		SignatureAlgorithm:    x509.SHA256WithRSA,
	}
}
