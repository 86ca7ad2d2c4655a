package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keygen makes a network key: a PKCS#8 PEM file that only its owner may read.
func keygen(_ context.Context, std Streams, args []string) error {
	flags := newFlags(std, "keygen")
	out := flags.String("out", "", "file to write; it must not exist yet")
	bits := flags.Int("bits", 3072, "size of the key, 2048 to 8192")
	if err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	if *out == "" {
		return usagef("keygen: -out FILE is missing")
	}
	if *bits < 2048 || *bits > 8192 {
		return usagef("keygen: -bits %d: a network key has 2048 to 8192 bits", *bits)
	}
	if err := writeKey(*out, *bits); err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "wrote %s: copy it to every host of the network and keep it secret\n", *out)
	return nil
}

// writeKey never overwrites: the file is created exclusively, before the key
// is computed, and removed again if anything fails.
func writeKey(file string, bits int) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keygen: %s exists and is left alone: a network whose key is lost must be set up anew", file)
	}
	if err != nil {
		return fmt.Errorf("keygen: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("keygen: %s: %w", file, errors.Join(err, os.Remove(file)))
		}
	}()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	return f.Sync()
}
