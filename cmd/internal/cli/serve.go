package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	iris "github.com/project-iris/iris/sdk"
)

// commandOf checks the command behind `--` of a tool that serves a cluster with
// it, and finds the program.
func commandOf(tool, cluster string, argv []string) ([]string, error) {
	if len(argv) < 2 || argv[0] != "--" {
		return nil, usagef("%s: name the command to run: iris %s %s -- COMMAND ARGS…", tool, tool, cluster)
	}
	path, err := exec.LookPath(argv[1])
	if err != nil {
		return nil, usagef("%s: %v", tool, err)
	}
	return append([]string{path}, argv[2:]...), nil
}

// serve registers a service until ctx is done or its node is gone.
func serve(ctx context.Context, std Streams, port int, cluster string, argv []string, service iris.ServiceHandler, dropped <-chan error) error {
	registration, err := iris.Register(port, cluster, service, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "serving %s with %s: interrupt to stop\n", cluster, strings.Join(argv[1:], " "))
	select {
	case <-ctx.Done():
		return registration.Unregister()
	case err := <-dropped:
		return errors.Join(fmt.Errorf("the node at port %d is gone: %w", port, err), registration.Unregister())
	}
}

// idle are the parts of a service that a tool has no use for.
type idle struct {
	dropped chan error // capacity 1, filled by HandleDrop
}

// Init has nothing to prepare.
func (idle) Init(*iris.Connection) error { return nil }

// HandleRequest refuses: this service takes no requests.
func (idle) HandleRequest([]byte) ([]byte, error) {
	return nil, errors.New("this service takes no requests")
}

// HandleBroadcast ignores broadcasts.
func (idle) HandleBroadcast([]byte) {}

// HandleTunnel refuses: this service takes no tunnels.
func (idle) HandleTunnel(t *iris.Tunnel) { _ = t.Abort("this service takes no tunnels") }

// HandleDrop ends the command line: the node is gone for good.
func (i idle) HandleDrop(reason error) { i.dropped <- reason }
