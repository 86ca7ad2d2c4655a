package iris

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/project-iris/iris/spec/endpoint"
)

// defaultReconnect is how long a lost node is looked for: long enough for a
// node to be restarted or upgraded.
const defaultReconnect = 30 * time.Second

// An Option changes how Connect or Register attach.
type Option func(*options)

type options struct {
	log       *slog.Logger
	dial      func(context.Context) (net.Conn, error)
	reconnect time.Duration
}

// WithLogger sets where losses of the node and panics of handlers are told. If
// absent or nil, slog.Default().
func WithLogger(log *slog.Logger) Option {
	return func(o *options) { o.log = log }
}

// WithDialer sets how the node is reached, first and after a loss. If absent or
// nil, at the Unix socket of the port, then over TCP on 127.0.0.1 and ::1.
func WithDialer(dial func(ctx context.Context) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithReconnect sets for how long a lost node is looked for before the
// connection is given up. If absent, 30 seconds. If zero or negative, a lost
// node is given up at once.
func WithReconnect(limit time.Duration) Option {
	return func(o *options) { o.reconnect = limit }
}

func applied(port int, opts []Option) options {
	o := options{reconnect: defaultReconnect}
	for _, opt := range opts {
		opt(&o)
	}
	if o.log == nil {
		o.log = slog.Default()
	}
	if o.dial == nil {
		o.dial = func(ctx context.Context) (net.Conn, error) { return endpoint.Dial(ctx, port) }
	}
	return o
}
