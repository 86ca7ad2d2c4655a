//go:build unix

package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/project-iris/iris/spec/endpoint"
)

// socketMode lets all users of the host attach to root's node, and to another
// user's him alone. relay.md 1.4.
func socketMode() fs.FileMode {
	if os.Getuid() == 0 {
		return 0o666
	}
	return 0o600
}

// probeTime bounds the attempt to reach a node at a socket that exists.
const probeTime = time.Second

// listenSocket listens at the Unix socket of port.
func listenSocket(port int) (net.Listener, error) {
	path, err := endpoint.Prepare(port)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that a dead node has left: one at which nobody
// listens. Anything else at path stays.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket: remove it", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTime)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another node listens at %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether somebody listens at %s: %w", path, err)
	}
	return os.Remove(path)
}
