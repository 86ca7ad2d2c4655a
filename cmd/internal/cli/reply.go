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
	command, err := commandOf("reply", cluster, argv)
	if err != nil {
		return err
	}
	service := &commandService{path: command[0], args: command[1:], idle: idle{dropped: make(chan error, 1)}}
	return serve(ctx, std, *port, cluster, argv, service, service.dropped)
}

// A commandService answers each request with what a command prints.
type commandService struct {
	idle
	path string
	args []string
}

// HandleRequestContext runs the command with the request on its stdin. The
// command is killed when the deadline passes or the requester gives up.
func (s *commandService) HandleRequestContext(ctx context.Context, request *iris.Request) (*iris.Reply, error) {
	out, err := s.run(ctx, request.Payload)
	return &iris.Reply{Payload: out}, err
}

func (s *commandService) run(ctx context.Context, request []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.path, s.args...)
	cmd.Stdin = bytes.NewReader(request)
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

// HandleRequest is not used: HandleRequestContext is preferred.
func (s *commandService) HandleRequest(request []byte) ([]byte, error) {
	return s.run(context.Background(), request)
}

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
