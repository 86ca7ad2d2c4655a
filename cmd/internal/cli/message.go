package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// messageOf is the message that a command was given: its last argument, or all of
// stdin for "-".
func messageOf(std Streams, arg string) ([]byte, error) {
	if arg != "-" {
		return []byte(arg), nil
	}
	message, err := io.ReadAll(io.LimitReader(std.In, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	return message, nil
}

// sendTimeout bounds how long a node may take to accept a message.
const sendTimeout = 10 * time.Second

// attached runs do with a connection to the node at port, and closes it.
func attached(ctx context.Context, port int, do func(context.Context, *iris.Connection) error) error {
	conn, err := iris.Connect(port)
	if err != nil {
		return err
	}
	if err := do(ctx, conn); err != nil {
		_ = conn.Close() // the first error is the one to tell
		return err
	}
	return conn.Close()
}

// broadcast sends one message to all members of a cluster.
func broadcast(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "broadcast")
	port := portFlag(flags)
	headers := headerFlag(flags)
	if err := parse(flags, args, 1, 2); err != nil {
		return err
	}
	message, err := messageOf(std, flags.Arg(1))
	if err != nil {
		return fmt.Errorf("broadcast: %w", err)
	}
	return attached(ctx, *port, func(ctx context.Context, conn *iris.Connection) error {
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		return conn.Broadcast(ctx, flags.Arg(0), message, iris.WithHeaders(*headers))
	})
}
