package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// tunnelChunk is how much of a stream goes into one message of a tunnel.
const tunnelChunk = 32 << 10

// tunnel connects stdin and stdout with a member of a cluster, or with -accept
// serves tunnels with a command.
func tunnel(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "tunnel")
	port := portFlag(flags)
	headers := headerFlag(flags)
	accept := flags.Bool("accept", false, "serve tunnels: run the command after -- for each, its stdin and stdout through the tunnel")
	timeout := flags.Duration("timeout", 5*time.Second, "how long to wait for the tunnel to open")
	if err := parse(flags, args, 1, -1); err != nil {
		return err
	}
	if *accept {
		if *headers != nil {
			return usagef("tunnel: -header goes with the opening of a tunnel, not with -accept")
		}
		return acceptTunnels(ctx, std, *port, flags.Arg(0), flags.Args()[1:])
	}
	if flags.NArg() > 1 {
		return usagef("tunnel: unexpected argument %q", flags.Arg(1))
	}
	return attached(ctx, *port, func(ctx context.Context, conn *iris.Connection) error {
		opening, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		t, err := conn.Tunnel(opening, flags.Arg(0), iris.WithHeaders(*headers))
		if err != nil {
			return err
		}
		return errors.Join(pipe(ctx, t, std.In, std.Out), t.Close())
	})
}

// pipe copies in to the tunnel and the tunnel to out until both have ended.
func pipe(ctx context.Context, t *iris.Tunnel, in io.Reader, out io.Writer) error {
	sent := make(chan error, 1)
	go func() {
		err := pump(ctx, t, in)
		if err == nil {
			err = t.CloseSend()
		}
		sent <- err
	}()
	err := drainTunnel(ctx, t, out)
	if err != nil {
		_ = t.Abort("the other end of the pipe is closed")
		return err // in may never end: the process does
	}
	return <-sent
}

// pump sends in to its end.
func pump(ctx context.Context, t *iris.Tunnel, in io.Reader) error {
	buffer := make([]byte, tunnelChunk)
	for {
		n, err := in.Read(buffer)
		if n > 0 {
			if err := t.Send(ctx, buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("tunnel: read: %w", err), t.Abort("reading failed"))
		}
	}
}

func drainTunnel(ctx context.Context, t *iris.Tunnel, out io.Writer) error {
	for {
		message, err := t.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(message); err != nil {
			return fmt.Errorf("tunnel: write: %w", err)
		}
	}
}

// acceptTunnels serves a cluster with a command for each tunnel.
func acceptTunnels(ctx context.Context, std Streams, port int, cluster string, argv []string) error {
	command, err := commandOf("tunnel -accept", cluster, argv)
	if err != nil {
		return err
	}
	service := &tunnelService{ctx: ctx, command: command, errs: &lockedWriter{w: std.Err}, idle: idle{dropped: make(chan error, 1)}}
	return serve(ctx, std, port, cluster, argv, service, service.dropped)
}

// A tunnelService runs a command for each tunnel.
type tunnelService struct {
	idle
	ctx     context.Context // of the command line: it ends the commands
	command []string
	errs    io.Writer
}

// HandleTunnel runs the command until it and the tunnel have ended. The other end
// is told of the end of its output only when it has succeeded.
func (s *tunnelService) HandleTunnel(t *iris.Tunnel) {
	if err := s.run(t); err != nil {
		fmt.Fprintln(s.errs, "iris: tunnel:", err)
		_ = t.Abort(err.Error())
		return
	}
	if err := t.Close(); err != nil {
		fmt.Fprintln(s.errs, "iris: tunnel:", err)
	}
}

func (s *tunnelService) run(t *iris.Tunnel) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	stderr := &boundedBuffer{max: 8 << 10}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if drainTunnel(ctx, t, in) != nil {
			cancel() // the tunnel broke, or the command reads no more
		}
		_ = in.Close()
	})
	sent := pump(ctx, t, out)
	err = cmd.Wait()
	if err == nil {
		err = sent
	}
	cancel()
	wg.Wait()
	if err != nil && stderr.Len() > 0 {
		return errors.New(strings.TrimRight(stderr.String(), "\r\n"))
	}
	return err
}

// A lockedWriter is for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes p as a whole.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
