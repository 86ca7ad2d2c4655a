package cli

import (
	"context"
	"fmt"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// maxMessage bounds what is read from stdin for one request: a little more than
// any payload limit, so that the refusal names the limit of the node.
const maxMessage = 2 << 20

// request sends one request and prints the reply.
func request(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "request")
	port := portFlag(flags)
	headers := headerFlag(flags)
	timeout := flags.Duration("timeout", 5*time.Second, "how long to wait for the reply")
	if err := parse(flags, args, 1, 2); err != nil {
		return err
	}
	message, err := messageOf(std, flags.Arg(1))
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	answer, err := ask(ctx, *port, &iris.Request{Cluster: flags.Arg(0), Payload: message, Headers: *headers}, *timeout)
	if err != nil {
		return err
	}
	_, err = std.Out.Write(answer.Payload)
	return err
}

// ask attaches to the node at port for one request.
func ask(ctx context.Context, port int, request *iris.Request, timeout time.Duration) (*iris.Reply, error) {
	conn, err := iris.Connect(port)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return conn.Call(ctx, request)
}
