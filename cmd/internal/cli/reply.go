package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	iris "github.com/project-iris/iris/sdk"
)

// reply serves a cluster with a command until it is interrupted.
func reply(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "reply")
	port := portFlag(flags)
	if err := parse(flags, args, 1, -1); err != nil {
		return err
	}
	cluster, argv := flags.Arg(0), flags.Args()[1:]
	if len(argv) < 2 || argv[0] != "--" {
		return usagef("reply: name the command to run: iris reply %s -- COMMAND ARGS…", cluster)
	}
	path, err := exec.LookPath(argv[1])
	if err != nil {
		return usagef("reply: %v", err)
	}
	service := &commandService{path: path, args: argv[2:], dropped: make(chan error, 1)}
	registration, err := iris.Register(*port, cluster, service, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "serving %s with %s: interrupt to stop\n", cluster, strings.Join(argv[1:], " "))
	select {
	case <-ctx.Done():
		return registration.Unregister()
	case err := <-service.dropped:
		return errors.Join(fmt.Errorf("reply: the node at port %d is gone: %w", *port, err), registration.Unregister())
	}
}

// A commandService answers each request with what a command prints.
type commandService struct {
	path    string
	args    []string
	dropped chan error // capacity 1, filled by HandleDrop
}

// HandleRequestContext runs the command with the request on its stdin. The
// command is killed when the deadline passes or the requester gives up.
func (s *commandService) HandleRequestContext(ctx context.Context, request *iris.Request) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.path, s.args...)
	cmd.Stdin = bytes.NewReader(request.Payload)
	out, stderr := &boundedBuffer{max: maxMessage}, &boundedBuffer{max: 8 << 10}
	cmd.Stdout, cmd.Stderr = out, stderr
	err := cmd.Run()
	switch {
	case out.overflown:
		return nil, fmt.Errorf("%s printed more than fits a reply", s.path)
	case err == nil:
		return out.Bytes(), nil
	case stderr.Len() > 0:
		return nil, errors.New(strings.TrimRight(stderr.String(), "\r\n"))
	}
	return nil, fmt.Errorf("%s: %w", s.path, err)
}

// Init has nothing to prepare.
func (s *commandService) Init(*iris.Connection) error { return nil }

// HandleRequest is not used: HandleRequestContext is preferred.
func (s *commandService) HandleRequest(request []byte) ([]byte, error) {
	return s.HandleRequestContext(context.Background(), &iris.Request{Payload: request})
}

// HandleBroadcast ignores broadcasts: a command serves requests only.
func (s *commandService) HandleBroadcast([]byte) {}

// HandleTunnel ignores tunnels: a command serves requests only.
func (s *commandService) HandleTunnel(*iris.Tunnel) {}

// HandleDrop ends the command line: the node is gone for good.
func (s *commandService) HandleDrop(reason error) { s.dropped <- reason }

// A boundedBuffer keeps the first max bytes and remembers whether there were more.
type boundedBuffer struct {
	bytes.Buffer
	max       int
	overflown bool
}

// Write never fails, so that the command is not disturbed by the bound.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); len(p) > room {
		b.overflown = true
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
