package cli

import (
	"crypto/rsa"
	"fmt"
	"os"
	"runtime"

	"github.com/project-iris/iris/stack/link"
)

// readKeys reads the network key. A file that others can read is refused: who
// has the key is a member of the network.
func readKeys(file string) ([]*rsa.PrivateKey, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, &keyError{fmt.Errorf("key: %w: give its path with -rsa, or make a key with `iris keygen -out FILE`", err)}
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return nil, &keyError{fmt.Errorf("key: %s can be read by every user of this host (mode %04o): run `chmod 600 %s`",
			file, info.Mode().Perm(), file)}
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, &keyError{fmt.Errorf("key: %w: run iris as a user who may read it", err)}
	}
	keys, err := link.ParseKeys(pem)
	if err != nil {
		return nil, &keyError{fmt.Errorf("key: %s: %w", file, err)}
	}
	return keys, nil
}
