package iris

import (
	"context"
	"fmt"

	"github.com/project-iris/iris/spec/wire"
)

// Broadcast sends message to every member of cluster, this program's own service
// included if it is one; message is not kept. It returns when the message is
// handed to the node, and says nothing about members: there may be none. Members
// that are connected throughout get the broadcasts of one connection in their
// order, each at most once; one that is too slow misses some. WithHeaders sends
// headers along. The error is
// ErrTooLarge, ErrInvalid, ErrTimeout, ErrCancelled or ErrClosed.
func (c *Connection) Broadcast(ctx context.Context, cluster string, message []byte, opts ...MessageOption) error {
	headers, err := headersOf(opts)
	if err == nil {
		m := wire.Broadcast{Cluster: []byte(cluster), Headers: headers, Payload: message}
		err = c.send(ctx, cluster, message, headers, m.Size(), func(b []byte) []byte { return wire.AppendBroadcast(b, m) })
	}
	if err != nil {
		return wrap(fmt.Sprintf("broadcast to %q", cluster), err)
	}
	return nil
}

// Publish sends event to every subscriber of topic, this connection included if
// it is one; event is not kept. It returns when the event is handed to the node,
// and waits for no subscriber: see TopicLimits. Subscribers that are connected
// throughout get the events of one connection in their order, each at most once.
// WithHeaders sends headers along.
// The errors are those of Broadcast.
func (c *Connection) Publish(ctx context.Context, topic string, event []byte, opts ...MessageOption) error {
	headers, err := headersOf(opts)
	if err == nil {
		m := wire.Publish{Topic: []byte(topic), Headers: headers, Payload: event}
		err = c.send(ctx, topic, event, headers, m.Size(), func(b []byte) []byte { return wire.AppendPublish(b, m) })
	}
	if err != nil {
		return wrap(fmt.Sprintf("publish to %q", topic), err)
	}
	return nil
}

// send checks a message and posts what add appends, on a further session if the
// first one provably did not take it.
func (c *Connection) send(ctx context.Context, name string, payload []byte, headers wire.Headers, size int, add func([]byte) []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := c.await(ctx)
		if err == nil {
			err = fits(s.limits, name, payload, headers)
		}
		if err == nil {
			err = s.post(ctx, size, add)
		}
		if err != errNotSent {
			return err
		}
		s.endBroken()
	}
}

// post is write for messages that nobody waits for: many of them go to the
// connection at once.
func (s *session) post(ctx context.Context, size int, add func([]byte) []byte) error {
	b, err := s.begin(ctx, size)
	if err != nil {
		return err
	}
	s.out.Commit(add(b))
	s.gather.flushSoon(s.out, size, s.background)
	return nil
}
