package cli

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/project-iris/iris/stack/link"
)

// passVariable is the environment variable that may hold the passphrase.
const passVariable = "IRIS_RSA_PASS"

// maxSecretBytes bounds a key file, and a file with a passphrase.
const maxSecretBytes = 256 << 10

// A keyFile is where the network's keys are. It is a node.KeySource.
type keyFile struct {
	path string
	pass string // file of the passphrase; if empty, it may be in passVariable
}

// Stamp tells the two files' times, sizes and modes.
func (k keyFile) Stamp() string { return stampOf(k.path) + " " + stampOf(k.pass) }

func stampOf(path string) string {
	if path == "" {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Mode())
}

// Read reads the keys. Files that others can read are refused: who has the key is a
// member of the network.
func (k keyFile) Read() ([]*rsa.PrivateKey, error) {
	b, err := readSecret(k.path, "-rsa, or make a key with `iris keygen -out FILE`")
	if err != nil {
		return nil, &keyError{fmt.Errorf("key: %w", err)}
	}
	passphrase, err := k.passphrase()
	if err != nil {
		return nil, &keyError{fmt.Errorf("passphrase: %w", err)}
	}
	keys, err := link.ParseKeys(b, passphrase)
	if err != nil {
		return nil, &keyError{fmt.Errorf("key: %s: %w", k.path, err)}
	}
	return keys, nil
}

// passphrase is the first line of its file, or what the environment has; nil if
// there is none.
func (k keyFile) passphrase() ([]byte, error) {
	if k.pass == "" {
		return []byte(os.Getenv(passVariable)), nil
	}
	b, err := readSecret(k.pass, "-rsa-pass")
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("the first line of %s is empty: it is to hold the passphrase", k.pass)
	}
	return line, nil
}

// readSecret reads a file that only its owner, and perhaps a group, may read. how is
// the end of the remedy for one that is not there.
func readSecret(path, how string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w: run iris as a user who may read it", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: give its path with %s", err, how)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder: give the path of the file with %s", path, how)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s can be read by every user of this host (mode %04o): run `chmod 600 %s`", path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(b) > maxSecretBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, which no such file has: give the path of the file with %s", path, maxSecretBytes, how)
	}
	return b, nil
}
