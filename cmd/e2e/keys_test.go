package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/node"
)

// encryptedKey is a key of the tests of link, encrypted as openssl does; the
// passphrase is "secret".
func encryptedKey(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "stack", "link", "testdata", "pkcs8", name+".pem"))
	require.NoError(t, err)
	return b
}

// secretFile writes a file that only its owner may read.
func secretFile(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

func TestEveryBadKeyFileIsRefusedWithItsRemedy(t *testing.T) {
	pemOf := func(kind string, der []byte, err error) []byte {
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	good := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)
	public, publicErr := x509.MarshalPKIXPublicKey(key.Public())
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	certificate, certificateErr := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ecDER, ecErr := x509.MarshalECPrivateKey(ec)
	edDER, edErr := x509.MarshalPKCS8PrivateKey(ed)
	//lint:ignore SA1019 the old encryption is what must be recognized
	legacy, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte("secret"), x509.PEMCipherAES256)
	require.NoError(t, err)
	for name, row := range map[string]struct {
		file   []byte
		remedy string
	}{
		"public key":        {pemOf("PUBLIC KEY", public, publicErr), "give the private key file"},
		"certificate":       {pemOf("CERTIFICATE", certificate, certificateErr), "give the private key file"},
		"EC key":            {pemOf("EC PRIVATE KEY", ecDER, ecErr), "a network needs one, make it with `iris keygen`"},
		"Ed25519 key":       {pemOf("PRIVATE KEY", edDER, edErr), "a network needs one, make it with `iris keygen`"},
		"too small":         {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small), nil), "iris keygen -bits 3072"},
		"legacy encryption": {pem.EncodeToMemory(legacy), "openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW"},
		"no passphrase":     {encryptedKey(t, "aes256-sha256"), "-rsa-pass FILE or in IRIS_RSA_PASS"},
		"garbage":           {[]byte("garbage"), "make one with `iris keygen`"},
		"empty":             {nil, "make one with `iris keygen`"},
		"cut off":           {append(bytes.Clone(good), good[:900]...), "copy the whole file again"},
		"too many keys":     {bytes.Repeat(good, 17), "remove the older ones"},
		"too large":         {make([]byte, 300<<10), "give the path of the file with -rsa"},
	} {
		o := run(t, "", "-net", "n", "-rsa", secretFile(t, row.file), "-bind", "127.0.83.1/30")
		require.Equal(t, 6, o.code, "%s: %s", name, o.errors)
		require.Contains(t, o.errors, row.remedy, name)
	}
	open := secretFile(t, good)
	require.NoError(t, os.Chmod(open, 0o604))
	for file, remedy := range map[string]string{
		open:                                 "run `chmod 600 " + open + "`",
		filepath.Join(t.TempDir(), "absent"): "make a key with `iris keygen -out FILE`",
		t.TempDir():                          "is a folder",
	} {
		o := run(t, "", "-net", "n", "-rsa", file, "-bind", "127.0.83.1/30")
		require.Equal(t, 6, o.code, o.errors)
		require.Contains(t, o.errors, remedy)
	}
}

func TestBadPassphraseIsRefusedWithItsRemedy(t *testing.T) {
	key := secretFile(t, encryptedKey(t, "aes256-sha256"))
	open := secretFile(t, []byte("secret"))
	require.NoError(t, os.Chmod(open, 0o644))
	for file, remedy := range map[string]string{
		secretFile(t, []byte("Secret\n")):    "the passphrase is wrong",
		secretFile(t, []byte("\nsecret\n")):  "is to hold the passphrase",
		open:                                 "run `chmod 600 " + open + "`",
		filepath.Join(t.TempDir(), "absent"): "give its path with -rsa-pass",
	} {
		o := run(t, "", "-net", "n", "-rsa", key, "-rsa-pass", file, "-bind", "127.0.83.1/30")
		require.Equal(t, 6, o.code, o.errors)
		require.Contains(t, o.errors, remedy)
		require.NotContains(t, o.errors, "ecret\n")
	}
	t.Setenv("IRIS_RSA_PASS", "Secret")
	o := run(t, "", "-net", "n", "-rsa", key, "-bind", "127.0.83.1/30")
	require.Equal(t, 6, o.code, o.errors)
	require.Contains(t, o.errors, "the passphrase is wrong")
	o = run(t, "", "-net", "n", "-rsa", secretFile(t, encryptedKey(t, "des3")), "-rsa-pass", secretFile(t, []byte("secret")))
	require.Equal(t, 6, o.code, o.errors)
	require.Contains(t, o.errors, "openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW")
	require.Equal(t, 2, run(t, "", "-dev", "-rsa-pass", open).code)
}

func TestNodesRunOnAnEncryptedKey(t *testing.T) {
	key := encryptedKey(t, "aes256-sha256")
	subnet := cluster.RandomSubnet(28)
	byFile := addKeyed(t, cluster.Config{Subnet: subnet, Args: []string{"-rsa-pass", secretFile(t, []byte("secret\r\n"))}}, 1, key)
	t.Setenv("IRIS_RSA_PASS", "secret")
	byVariable := addKeyed(t, cluster.Config{Subnet: subnet}, 2, key)
	for _, x := range []keyed{byFile, byVariable} {
		s, err := x.AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 1 })
		require.NoError(t, err)
		require.Equal(t, "6ccac711", s.Keys.Signs)
	}
}

func TestDeveloperModeHasNoKeysToTell(t *testing.T) {
	d := startDev(t)
	d.attach(t)
	o := run(t, "", "keys", "-port", strconv.Itoa(d.port))
	require.Equal(t, 1, o.code)
	require.Contains(t, o.errors, "developer mode")
}
