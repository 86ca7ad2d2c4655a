package link

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"
)

// maxIterations bounds what a file can make a start cost: some seconds. OpenSSL
// writes 2,048, recommendations are below a million.
const maxIterations = 10_000_000

// The structures of RFC 5958 (section 3) and RFC 8018 (appendix A).
type (
	encryptedPKCS8 struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct {
		Derivation, Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Parameters struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// isEncrypted tells whether der is an encrypted PKCS#8.
func isEncrypted(der []byte) bool {
	var info encryptedPKCS8
	rest, err := asn1.Unmarshal(der, &info)
	return err == nil && len(rest) == 0
}

// decryptPKCS8 decrypts what openssl writes: PBES2 with PBKDF2 and AES in CBC mode.
// The errors wrap ErrEncryption, if it is something else, or ErrPassphrase.
func decryptPKCS8(der, passphrase []byte, maxIterations int) ([]byte, error) {
	var info encryptedPKCS8
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, ErrDamaged
	}
	var scheme pbes2
	if name := info.Algorithm.Algorithm.String(); name != "1.2.840.113549.1.5.13" {
		return nil, fmt.Errorf("%w (it is not PBES2 but %s)", ErrEncryption, name)
	}
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, ErrDamaged
	}
	size, iv, err := aesOf(scheme.Cipher)
	if err != nil {
		return nil, err
	}
	key, err := deriveKey(scheme.Derivation, passphrase, size, maxIterations)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, ErrDamaged
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(info.Data, info.Data)
	return unpadded(info.Data)
}

// aesOf tells the key's size in bytes and the initialisation vector.
func aesOf(a pkix.AlgorithmIdentifier) (size int, iv []byte, err error) {
	sizes := map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
	size, known := sizes[a.Algorithm.String()]
	if !known {
		return 0, nil, fmt.Errorf("%w (it is not AES-CBC but %s)", ErrEncryption, a.Algorithm)
	}
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &iv); err != nil || len(iv) != aes.BlockSize {
		return 0, nil, ErrDamaged
	}
	return size, iv, nil
}

func deriveKey(a pkix.AlgorithmIdentifier, passphrase []byte, size, maxIterations int) ([]byte, error) {
	if name := a.Algorithm.String(); name != "1.2.840.113549.1.5.12" {
		return nil, fmt.Errorf("%w (it is not PBKDF2 but %s)", ErrEncryption, name)
	}
	var p pbkdf2Parameters
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil || p.Iterations < 1 || p.KeyLength != 0 && p.KeyLength != size {
		return nil, ErrDamaged
	}
	if p.Iterations > maxIterations {
		return nil, fmt.Errorf("%w (%d iterations, more than %d)", ErrEncryption, p.Iterations, maxIterations)
	}
	hashes := map[string]func() hash.Hash{
		"":                    sha1.New, // the default of RFC 8018
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
	}
	newHash, known := hashes[p.PRF.Algorithm.String()]
	if !known {
		return nil, fmt.Errorf("%w (unknown hash %s)", ErrEncryption, p.PRF.Algorithm)
	}
	return pbkdf2.Key(newHash, string(passphrase), p.Salt, p.Iterations, size)
}

// unpadded takes off the padding, which a wrong passphrase makes wrong nearly always.
func unpadded(b []byte) ([]byte, error) {
	n := int(b[len(b)-1])
	if n == 0 || n > aes.BlockSize || !bytes.HasSuffix(b, bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, ErrPassphrase
	}
	return b[:len(b)-n], nil
}
