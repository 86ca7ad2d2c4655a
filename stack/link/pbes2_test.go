package link_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// encrypted reads testdata/pkcs8: one key, made with openssl pkcs8 -topk8, with the
// passphrase "secret", encrypted in the ways that the names tell.
func encrypted(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "pkcs8", name+".pem"))
	require.NoError(tb, err)
	return b
}

func TestParseKeysDecryptsWhatOpenSSLWrites(t *testing.T) {
	for _, name := range []string{"aes256-sha256", "aes128-sha1", "aes192-sha512"} {
		file := encrypted(t, name)
		block, _ := pem.Decode(file)
		for form, b := range map[string][]byte{"PEM": file, "DER": block.Bytes} {
			keys, err := link.ParseKeys(b, []byte("secret"))
			require.NoError(t, err, "%s, %s", name, form)
			id := network(t, keys...).Keys()[0]
			require.Equal(t, "6ccac711135a3854934462eb5862e7bfa3356f0ed9d1243b2b39a6edd471b711", hex.EncodeToString(id[:]), name)
			_, err = link.ParseKeys(b, []byte("Secret"))
			require.ErrorIs(t, err, link.ErrPassphrase, "%s, %s", name, form)
			require.ErrorContains(t, err, "openssl rsa -in KEY -noout -check")
			_, err = link.ParseKeys(b, nil)
			require.ErrorIs(t, err, link.ErrEncryptedKey, "%s, %s", name, form)
		}
	}
}

func TestParseKeysRefusesOtherEncryption(t *testing.T) {
	for name, why := range map[string]string{
		"des3":   "not AES-CBC",
		"scrypt": "not PBKDF2",
		"pbes1":  "not PBES2",
	} {
		_, err := link.ParseKeys(encrypted(t, name), []byte("secret"))
		require.ErrorIs(t, err, link.ErrEncryption, name)
		require.ErrorContains(t, err, why)
		require.ErrorContains(t, err, "openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
}

func TestParseKeysDecryptsOpenSSH(t *testing.T) {
	key := linktest.Key(t)
	file := pem.EncodeToMemory(must(ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))))
	keys, err := link.ParseKeys(file, []byte("secret"))
	require.NoError(t, err)
	require.True(t, key.Equal(keys[0]))
	_, err = link.ParseKeys(file, []byte("Secret"))
	require.ErrorIs(t, err, link.ErrPassphrase)
	require.ErrorContains(t, err, "ssh-keygen -y")
}

func TestParseKeysTakesEncryptedKeysBesidePlainOnes(t *testing.T) {
	plain := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(linktest.Key(t)))
	keys, err := link.ParseKeys(slices.Concat(plain, encrypted(t, "aes256-sha256")), []byte("secret"))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.True(t, linktest.Key(t).Equal(keys[0]))
}

// A key that is missed changes who signs, or cuts links.
func TestParseKeysRefusesAFileOfWhichABlockIsDamaged(t *testing.T) {
	first, second := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(linktest.Key(t))), pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(otherKey()))
	both := slices.Concat(first, second)
	for cut := len(first) + len("-----BEGIN "); cut < len(both)-1; cut += 97 {
		_, err := link.ParseKeys(both[:cut], nil)
		require.ErrorIs(t, err, link.ErrDamaged, "cut off at byte %d", cut)
	}
	damaged := bytes.Clone(both)
	damaged[len(first)/2] = '-'
	_, err := link.ParseKeys(damaged, nil)
	require.ErrorIs(t, err, link.ErrDamaged)
}

func FuzzDecryptPKCS8(f *testing.F) {
	for _, name := range []string{"aes256-sha256", "aes128-sha1", "des3", "scrypt", "pbes1"} {
		block, _ := pem.Decode(encrypted(f, name))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		plain, err := link.DecryptPKCS8(der, []byte("secret"), 2048)
		require.Equal(t, err == nil, plain != nil)
		require.Less(t, len(plain), max(1, len(der)))
	})
}
