//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func folders() ([]string, error) { return currentUser().folders(), nil }

// checkFolder tells whether what lies in a folder is to be trusted: it belongs
// to this user or root, and nobody else can write it. relay.md 1.4.
func checkFolder(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return trusted(path, info, os.Getuid(), 0)
}

// trusted wants a folder, not a link to one, of one of the owners.
func trusted(path string, info fs.FileInfo, owners ...int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others than its owner (mode %o): chmod it to 755 or 700", path, info.Mode().Perm())
	}
	for _, owner := range owners {
		if int(stat.Uid) == owner {
			return nil
		}
	}
	return fmt.Errorf("%s belongs to user %d: remove it", path, stat.Uid)
}

// prepareFolder makes the folder of a node's socket, or checks the one that is
// there.
func prepareFolder(path string) error {
	mode := fs.FileMode(0o700)
	if os.Getuid() == 0 {
		mode = 0o755 // everybody may attach to root's node
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	switch err := os.Mkdir(path, mode); {
	case err == nil:
		return os.Chmod(path, mode) // whatever the umask is
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the folder for sockets: %w", err)
	}
	return trusted(path, info, os.Getuid())
}

// nobodyListens tells the absence of a node from other reasons of a failed dial.
func nobodyListens(err error) bool {
	for _, absent := range []error{
		syscall.ECONNREFUSED, syscall.ENOENT, syscall.ENOTDIR,
		syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EAFNOSUPPORT, // no IPv6 here
	} {
		if errors.Is(err, absent) {
			return true
		}
	}
	return false
}
