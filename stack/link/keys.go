package link

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Bounds of a key file.
const (
	maxKeyFileBytes = 256 << 10
	maxKeys         = 16
)

// A KeySizeError refuses an RSA key that is too small to be safe or too large to
// be quick.
type KeySizeError struct {
	Bits int // of the modulus
}

// Error tells the size and the remedy.
func (e *KeySizeError) Error() string {
	return fmt.Sprintf("the RSA key has %d bits: a network key has %d to %d; make one with `iris keygen -bits 3072`",
		e.Bits, minKeyBits, maxKeyBits)
}

// Reasons for which ParseKeys refuses, for branching; the errors that wrap them
// tell the remedy.
var (
	ErrNoKey        = errors.New("no RSA private key in it: make one with `iris keygen`")
	ErrEncryptedKey = errors.New("the key is encrypted: give the passphrase with -rsa-pass FILE or in IRIS_RSA_PASS, " +
		"or decrypt it with `openssl rsa -in KEY -out PLAIN` (PEM) or `ssh-keygen -p -N \"\" -f KEY` (OpenSSH), mode 0600")
	ErrPassphrase = errors.New("the passphrase is wrong, or the key damaged: " +
		"try it with `openssl rsa -in KEY -noout -check` (PEM) or `ssh-keygen -y -f KEY` (OpenSSH), which ask for it")
	ErrEncryption = errors.New("the key is encrypted in a way that is too weak or unusual: " +
		"encrypt it anew with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW`, mode 0600")
	ErrDamaged   = errors.New("a block of it is cut off or damaged: copy the whole file again, or make a key with `iris keygen`")
	ErrPublicKey = errors.New("that is a public key or certificate: give the private key file, or make a key with `iris keygen`")
	ErrNotRSA    = errors.New("the key is not an RSA key: a network needs one, make it with `iris keygen`")
)

// ParseKeys reads RSA private keys: PEM (PKCS#1, PKCS#8, OpenSSH; up to 16
// blocks, text around them is skipped) or a single key in DER. Keys that are
// encrypted (PKCS#8, OpenSSH) need the passphrase, the same for all; those that are
// not may stand beside them. Every key must be one that NewNetwork accepts. The
// errors wrap one of those above, or a [KeySizeError].
func ParseKeys(b, passphrase []byte) ([]*rsa.PrivateKey, error) {
	if len(b) > maxKeyFileBytes {
		return nil, fmt.Errorf("link: key file of more than %d bytes: %w", maxKeyFileBytes, ErrNoKey)
	}
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		key, err := parseDER(b, passphrase)
		if err != nil {
			return nil, fmt.Errorf("link: key file: %w", err)
		}
		return []*rsa.PrivateKey{key}, nil
	}
	var keys []*rsa.PrivateKey
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("link: key file: more than %d keys: a change of keys needs two, remove the older ones", maxKeys)
		}
		key, err := parseBlock(block, passphrase)
		if err != nil {
			return nil, fmt.Errorf("link: key file, block %d (%.40q): %w", len(keys)+1, block.Type, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("link: key file: %w", ErrNoKey)
	}
	// The decoder skips what it cannot read, but a key that is missed changes who signs.
	if bytes.Count(b, []byte("-----BEGIN ")) != len(keys) {
		return nil, fmt.Errorf("link: key file: %w", ErrDamaged)
	}
	return keys, nil
}

// parseBlock reads the key of one PEM block.
func parseBlock(block *pem.Block, passphrase []byte) (*rsa.PrivateKey, error) {
	switch {
	case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, ErrEncryption // an MD5 of the passphrase; nothing tells a wrong one
	case block.Type == "OPENSSH PRIVATE KEY":
		return parseOpenSSH(block, passphrase)
	case block.Type == "EC PRIVATE KEY", block.Type == "DSA PRIVATE KEY":
		return nil, ErrNotRSA
	case strings.HasSuffix(block.Type, "PUBLIC KEY"), strings.HasSuffix(block.Type, "CERTIFICATE"):
		return nil, ErrPublicKey
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return parseEncrypted(block.Bytes, passphrase)
	case block.Type == "RSA PRIVATE KEY", block.Type == "PRIVATE KEY":
		return parseDER(block.Bytes, passphrase)
	}
	return nil, ErrNoKey
}

func parseOpenSSH(block *pem.Block, passphrase []byte) (*rsa.PrivateKey, error) {
	text := pem.EncodeToMemory(block)
	key, err := ssh.ParseRawPrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		if len(passphrase) == 0 {
			return nil, ErrEncryptedKey
		}
		key, err = ssh.ParseRawPrivateKeyWithPassphrase(text, passphrase)
	}
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoKey, err)
	}
	return onlyRSA(key)
}

// parseDER reads PKCS#8 or PKCS#1. What is neither is told apart only for the
// sake of the remedy.
func parseDER(der, passphrase []byte) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return onlyRSA(key)
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err == nil {
		return onlyRSA(key)
	}
	if _, ecErr := x509.ParseECPrivateKey(der); ecErr == nil {
		return nil, ErrNotRSA
	}
	if isPublic(der) {
		return nil, ErrPublicKey
	}
	if isEncrypted(der) {
		return parseEncrypted(der, passphrase)
	}
	return nil, fmt.Errorf("%w (%w)", ErrNoKey, err)
}

// parseEncrypted reads an encrypted PKCS#8.
func parseEncrypted(der, passphrase []byte) (*rsa.PrivateKey, error) {
	if len(passphrase) == 0 {
		return nil, ErrEncryptedKey
	}
	plain, err := decryptPKCS8(der, passphrase, maxIterations)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, ErrPassphrase // a wrong one yields noise whose padding may look right
	}
	return onlyRSA(key)
}

func isPublic(der []byte) bool {
	_, pkix := x509.ParsePKIXPublicKey(der)
	_, pkcs1 := x509.ParsePKCS1PublicKey(der)
	_, cert := x509.ParseCertificate(der)
	return pkix == nil || pkcs1 == nil || cert == nil
}

func onlyRSA(key crypto.PrivateKey) (*rsa.PrivateKey, error) {
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, ErrNotRSA
	}
	return rsaKey, checkKey(rsaKey)
}
