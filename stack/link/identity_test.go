package link_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// otherKey is an RSA key of another network.
var otherKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNodesRebuildTheSameAuthority(t *testing.T) {
	key := linktest.Key(t)
	// The same key with its primes the other way round: other bytes, same key.
	swapped := &rsa.PrivateKey{PublicKey: key.PublicKey, D: new(big.Int).Set(key.D), Primes: []*big.Int{key.Primes[1], key.Primes[0]}}
	swapped.Precompute()
	a, b := linktest.NetworkOf(t, "net", key), linktest.NetworkOf(t, "net", swapped)
	certA, labelA := a.CA()
	certB, labelB := b.CA()
	require.Equal(t, certA.Raw, certB.Raw)
	require.Equal(t, labelA, labelB)
	require.Equal(t, a.Secrets("probe"), b.Secrets("probe"))
}

func TestNameKeyAndPurposeSeparateNetworks(t *testing.T) {
	key := linktest.Key(t)
	base := linktest.NetworkOf(t, "net", key)
	secret := base.Secrets("probe")[0]
	require.Len(t, secret, 32)
	require.NotEqual(t, secret, base.Secrets("other")[0])
	require.NotEqual(t, secret, linktest.NetworkOf(t, "net2", key).Secrets("probe")[0])
	require.NotEqual(t, secret, linktest.NetworkOf(t, "net", otherKey()).Secrets("probe")[0])
	_, label := base.CA()
	_, otherName := linktest.NetworkOf(t, "net2", key).CA()
	_, otherKeyLabel := linktest.NetworkOf(t, "net", otherKey()).CA()
	require.NotEqual(t, label, otherName)
	require.NotEqual(t, label, otherKeyLabel)
	require.NotContains(t, label, "net")
}

func TestSecretsOfAllKeysComeSigningKeyFirst(t *testing.T) {
	key := linktest.Key(t)
	both := linktest.NetworkOf(t, "net", otherKey(), key, otherKey()).Secrets("probe")
	require.Equal(t, [][]byte{
		linktest.NetworkOf(t, "net", otherKey()).Secrets("probe")[0],
		linktest.NetworkOf(t, "net", key).Secrets("probe")[0],
	}, both)
}

func TestNetworkRefusesWhatCannotBeSafe(t *testing.T) {
	_, err := link.NewNetwork("net")
	require.ErrorContains(t, err, "iris keygen")
	_, err = link.NewNetwork("", linktest.Key(t))
	require.ErrorContains(t, err, "name")
	_, err = link.NewNetwork(string(make([]byte, 256)), linktest.Key(t))
	require.ErrorContains(t, err, "255")
	_, err = link.NewNetwork("net", nil)
	require.Error(t, err)
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	_, err = link.NewNetwork("net", small)
	var size *link.KeySizeError
	require.ErrorAs(t, err, &size)
	require.Equal(t, 1024, size.Bits)
	damaged := &rsa.PrivateKey{PublicKey: linktest.Key(t).PublicKey, D: big.NewInt(3), Primes: slices.Clone(otherKey().Primes)}
	_, err = link.NewNetwork("net", damaged)
	require.ErrorContains(t, err, "damaged")
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestParseKeysReadsEveryCommonForm(t *testing.T) {
	key := linktest.Key(t)
	pkcs1, pkcs8 := x509.MarshalPKCS1PrivateKey(key), must(x509.MarshalPKCS8PrivateKey(key))
	openssh := pem.EncodeToMemory(must(ssh.MarshalPrivateKey(key, "a comment")))
	for name, file := range map[string][]byte{
		"PKCS#1 PEM": pemOf("RSA PRIVATE KEY", pkcs1),
		"PKCS#8 PEM": pemOf("PRIVATE KEY", pkcs8),
		"PKCS#1 DER": pkcs1,
		"PKCS#8 DER": pkcs8,
		"OpenSSH":    openssh,
		"with text":  slices.Concat([]byte("# the key\n"), pemOf("PRIVATE KEY", pkcs8), []byte("# the end\n")),
	} {
		keys, err := link.ParseKeys(file, nil)
		require.NoError(t, err, name)
		require.Len(t, keys, 1, name)
		require.True(t, key.Equal(keys[0]), name)
	}
	keys, err := link.ParseKeys(slices.Concat(openssh, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(otherKey()))), nil)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.True(t, key.Equal(keys[0]))
	require.True(t, otherKey().Equal(keys[1]))
}

func TestParseKeysTellsTheRemedy(t *testing.T) {
	key := linktest.Key(t)
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	//nolint:staticcheck // the old encryption is what must be recognized
	legacy := must(x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte("pw"), x509.PEMCipherAES256)) //lint:ignore SA1019 see above
	locked := must(ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("pw")))
	caCert, _ := linktest.NetworkOf(t, "net", key).CA()
	for name, row := range map[string]struct {
		file   []byte
		want   error
		remedy string
	}{
		"nothing":           {nil, link.ErrNoKey, "iris keygen"},
		"garbage":           {[]byte("not a key at all"), link.ErrNoKey, "iris keygen"},
		"garbage PEM":       {pemOf("RSA PRIVATE KEY", []byte("garbage")), link.ErrNoKey, "iris keygen"},
		"unknown PEM":       {pemOf("LETTER", []byte("dear")), link.ErrNoKey, "iris keygen"},
		"broken PEM":        {[]byte("-----BEGIN RSA PRIVATE KEY-----\nx"), link.ErrNoKey, "iris keygen"},
		"truncated OpenSSH": {pemOf("OPENSSH PRIVATE KEY", []byte("openssh-key-v1\x00abc")), link.ErrNoKey, "iris keygen"},
		"enormous":          {make([]byte, 1<<20), link.ErrNoKey, "iris keygen"},
		"public PEM":        {pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key.Public()))), link.ErrPublicKey, "private key file"},
		"public DER":        {must(x509.MarshalPKIXPublicKey(key.Public())), link.ErrPublicKey, "private key file"},
		"certificate":       {pemOf("CERTIFICATE", caCert.Raw), link.ErrPublicKey, "private key file"},
		"EC":                {pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec))), link.ErrNotRSA, "iris keygen"},
		"EC DER":            {must(x509.MarshalECPrivateKey(ec)), link.ErrNotRSA, "iris keygen"},
		"Ed25519":           {pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))), link.ErrNotRSA, "iris keygen"},
		"Ed25519 OpenSSH":   {pem.EncodeToMemory(must(ssh.MarshalPrivateKey(ed, ""))), link.ErrNotRSA, "iris keygen"},
		"encrypted PKCS#8":  {pemOf("ENCRYPTED PRIVATE KEY", []byte{1}), link.ErrEncryptedKey, "openssl rsa"},
		"encrypted PKCS#1":  {pem.EncodeToMemory(legacy), link.ErrEncryption, "openssl pkcs8 -topk8"},
		"encrypted OpenSSH": {pem.EncodeToMemory(locked), link.ErrEncryptedKey, "ssh-keygen -p"},
		"too small":         {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small)), &link.KeySizeError{Bits: 1024}, "iris keygen"},
	} {
		keys, err := link.ParseKeys(row.file, nil)
		require.Empty(t, keys, name)
		require.ErrorContains(t, err, row.remedy, name)
		if size, ok := row.want.(*link.KeySizeError); ok {
			require.ErrorAs(t, err, &size, name)
			continue
		}
		require.ErrorIs(t, err, row.want, name)
	}
	_, err := link.ParseKeys(slices.Repeat(pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), 17), nil)
	require.ErrorContains(t, err, "16")
}

func FuzzParseKeys(f *testing.F) {
	key := linktest.Key(f)
	f.Add(pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))
	f.Add(must(x509.MarshalPKCS8PrivateKey(key)))
	f.Add(pem.EncodeToMemory(must(ssh.MarshalPrivateKey(key, ""))))
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"))
	f.Add([]byte("\x30\x84\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := link.ParseKeys(b, nil)
		require.Equal(t, err == nil, len(keys) > 0)
		for _, key := range keys {
			require.GreaterOrEqual(t, key.N.BitLen(), 2048)
			require.LessOrEqual(t, key.N.BitLen(), 8192)
		}
	})
}
