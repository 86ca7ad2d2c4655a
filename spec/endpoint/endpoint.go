// Package endpoint says where a node listens for applications, and attaches to
// it there: relay.md 1. A node has a Unix socket in a folder that only its user
// or root can write, and TCP on the loopback addresses; the socket is faster and
// is tried first. All functions are safe for concurrent use.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// ErrNoNode says that nobody listens at a port. Dial wraps it.
var ErrNoNode = errors.New("no node listens")

// RuntimeDir is the environment variable that names the folder of the sockets,
// for nodes and applications alike. relay.md 1.3.
const RuntimeDir = "IRIS_RUNTIME_DIR"

// Socket is the path of the Unix socket at which a node of this user listens
// for port, 1 to 65535. Its folder may not exist yet: Prepare makes it. The
// error is errors.ErrUnsupported where nodes listen on TCP alone.
func Socket(port int) (string, error) {
	folders, err := folders()
	if err != nil {
		return "", err
	}
	return socketIn(folders[0], port)
}

// Prepare makes the folder of Socket(port), or checks it, so that a node can
// listen there: it belongs to this user and nobody else can write it; root's is
// readable by all, another user's by him alone. Whether a socket is in use
// there is for the caller to find out. relay.md 1.4.
func Prepare(port int) (path string, err error) {
	path, err = Socket(port)
	if err != nil {
		return "", err
	}
	if err := prepareFolder(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("endpoint: %w; or name another folder in $%s", err, RuntimeDir)
	}
	return path, nil
}

// Dial attaches to the node at port: the Unix sockets that may exist for it (own
// user's, then root's; only in folders that nobody else can write), then
// 127.0.0.1, then ::1, with TCP_NODELAY. It fails with ErrNoNode if nobody
// listens at any of them, and with the context's error if ctx is done first.
func Dial(ctx context.Context, port int) (net.Conn, error) {
	if err := checkPort(port); err != nil {
		return nil, err
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}} // the protocol has pings
	var failures []error
	for _, to := range places(port) {
		conn, err := dialer.DialContext(ctx, to.network, to.address)
		if err == nil {
			return conn, nil // TCP_NODELAY is what package net sets
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("endpoint: attach to the node at port %d: %w", port, context.Cause(ctx))
		}
		if !nobodyListens(err) {
			failures = append(failures, err)
		}
	}
	if len(failures) == 0 {
		return nil, fmt.Errorf("endpoint: %w at port %d: start one with `iris`, or `iris -dev`", ErrNoNode, port)
	}
	return nil, fmt.Errorf("endpoint: attach to the node at port %d: %w", port, errors.Join(failures...))
}

// A place is where a node may listen.
type place struct{ network, address string }

// places lists, in order, where to look for the node at port.
func places(port int) []place {
	var list []place
	if folders, err := folders(); err == nil {
		for _, f := range folders {
			if path, err := socketIn(f, port); err == nil && checkFolder(f) == nil {
				list = append(list, place{"unix", path})
			}
		}
	}
	p := strconv.Itoa(port)
	return append(list, place{"tcp4", net.JoinHostPort("127.0.0.1", p)}, place{"tcp6", net.JoinHostPort("::1", p)})
}

// maxPath is the longest path of a Unix socket that every system takes.
const maxPath = 103

func socketIn(folder string, port int) (string, error) {
	if err := checkPort(port); err != nil {
		return "", err
	}
	path := filepath.Join(folder, strconv.Itoa(port)+".sock")
	if len(path) > maxPath {
		return "", fmt.Errorf("endpoint: the path of the socket exceeds %d bytes: name a shorter folder in $%s: %s", maxPath, RuntimeDir, path)
	}
	return path, nil
}

func checkPort(port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("endpoint: port %d is not within 1 to 65535", port)
	}
	return nil
}

// A user is what the folders depend on.
type user struct {
	id      int
	folder  string // $IRIS_RUNTIME_DIR
	runtime string // $XDG_RUNTIME_DIR
	temp    string // the system's folder for temporary files
}

func currentUser() user {
	return user{os.Getuid(), os.Getenv(RuntimeDir), os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()}
}

// folders lists where the sockets of u's nodes are, and those of root's.
// relay.md 1.3.
func (u user) folders() []string {
	switch {
	case u.folder != "":
		return []string{u.folder}
	case u.id == 0:
		return []string{rootFolder}
	case u.runtime != "":
		return []string{filepath.Join(u.runtime, "iris"), rootFolder}
	}
	return []string{filepath.Join(u.temp, "iris-"+strconv.Itoa(u.id)), rootFolder}
}

// rootFolder is where the sockets of root's nodes are.
const rootFolder = "/run/iris"
