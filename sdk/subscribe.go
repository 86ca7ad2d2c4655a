package iris

import (
	"context"
	"fmt"
	"math"

	"github.com/project-iris/iris/spec/wire"
)

// A TopicHandler is what a program implements to get the events of a topic.
type TopicHandler interface {
	// HandleEvent gets one event. The slice is the handler's to keep. At most
	// TopicLimits.EventThreads run at once; a panic is logged.
	HandleEvent(event []byte)
}

// An EventMessageHandler is a TopicHandler that sees more of an event; it is
// called instead of HandleEvent.
type EventMessageHandler interface {
	// HandleEventMessage gets one event as HandleEvent does.
	HandleEventMessage(event *Message)
}

// TopicLimits bound what a subscription takes on at once.
//
// Publishers never wait for subscribers: an event for which there is no room is
// dropped. A subscription holds 16,384 events, and EventMemory bytes. A connection
// grants the node as much as its subscriptions have room for together, so that
// what exceeds it is dropped by the node, which counts it; what comes for a
// subscription that is full, while others are not, is dropped here: the newest
// event goes, and a warning in the log tells how many, once a minute. So a slow
// handler takes nothing from the other topics of its connection.
type TopicLimits struct {
	// EventThreads is how many handlers run at once. If zero, one: the events of
	// one publisher come in their order.
	EventThreads int
	// EventMemory is how many bytes of payloads and headers may wait or be handled;
	// one event alone may always exceed it. If zero, 64 MiB.
	EventMemory int
}

// resolve fills in the defaults of l, which may be nil.
func (l *TopicLimits) resolve() TopicLimits {
	var r TopicLimits
	if l != nil {
		r = *l
	}
	if r.EventThreads <= 0 {
		r.EventThreads = 1
	}
	if r.EventMemory <= 0 {
		r.EventMemory = defaultMemory
	}
	r.EventMemory = min(r.EventMemory, math.MaxInt32)
	return r
}

// Subscribe has handler called with every event that is published to topic from
// now on: when it returns, the subscription is effective, and what any program on
// any node publishes after that arrives. limits may be nil for the defaults. The
// connection subscribes again by itself when it attaches again; events that are
// published while the node is lost are missed.
//
// The error is ErrInvalid if the connection has subscribed to topic already,
// ErrLost if the node was lost meanwhile, ErrOverloaded beyond the node's limit of
// subscriptions, or one of ErrTooLarge, ErrTimeout, ErrCancelled, ErrClosed; then
// there is no subscription.
func (c *Connection) Subscribe(ctx context.Context, topic string, handler TopicHandler, limits *TopicLimits) error {
	attempt := fmt.Sprintf("subscribe to %q", topic)
	if handler == nil {
		return wrap(attempt, fmt.Errorf("%w: there is no handler", ErrInvalid))
	}
	l := limits.resolve()
	for {
		sub := newSubscription(topic, handler, l)
		sub.log = c.log.With("topic", topic)
		s, err := c.await(ctx)
		if err == nil {
			err = fits(s.limits, topic, nil, nil)
		}
		var e ending
		if err == nil {
			e, err = c.subscribe(ctx, s, sub)
		}
		switch {
		case err == nil && e.code == wire.CodeOK:
			return nil
		case err == errNotSent:
			s.endBroken()
		case err == nil && e.code == wire.CodeClosing && s.leaving.Load():
		default:
			return failed(attempt, e, err)
		}
	}
}

func newSubscription(topic string, handler TopicHandler, l TopicLimits) *subscription {
	sub := &subscription{topic: topic, inbox: inbox{
		method: "HandleEvent", threads: l.EventThreads, memory: l.EventMemory,
		handle: func(m held) { handler.HandleEvent(m.payload()) },
	}}
	if h, ok := handler.(EventMessageHandler); ok {
		sub.handle = func(m held) { h.HandleEventMessage(m.message()) }
		sub.method = "HandleEventMessage"
	}
	return sub
}

// subscribe tells s of a subscription and enters it.
func (c *Connection) subscribe(ctx context.Context, s *session, sub *subscription) (ending, error) {
	credit, err := c.topics.add(s, sub)
	if err != nil {
		return ending{}, err
	}
	sent := false
	e, err := s.command(ctx, len(sub.topic)+2*ctlSize, func(b []byte, id uint64) []byte {
		sent = true
		if credit > 0 {
			b = wire.AppendCredit(b, wire.KindEvent, uint32(credit))
		}
		return wire.AppendSubscribe(b, id, []byte(sub.topic))
	})
	switch {
	case err == nil && e.code == wire.CodeOK:
		c.topics.confirm(sub)
		return e, nil
	case !sent:
		c.topics.revoke(s, credit)
	case err != nil: // it may be effective all the same
		s.say(len(sub.topic)+ctlSize, func(b []byte) []byte { return wire.AppendUnsubscribe(b, 0, []byte(sub.topic)) })
	}
	c.topics.drop(sub)
	return e, err
}

// Unsubscribe ends the subscription of topic. When it returns, no further call of
// its handler starts; those that run are not waited for. It may be called within
// that handler, of which then no other call starts. The error is ErrInvalid if
// the connection has not subscribed to topic; with ErrTimeout or ErrCancelled
// the subscription may have ended or not. The loss of the node is no error.
func (c *Connection) Unsubscribe(ctx context.Context, topic string) error {
	e, err := c.unsubscribe(ctx, topic)
	if err != nil || e.code != wire.CodeOK {
		return failed(fmt.Sprintf("unsubscribe from %q", topic), e, err)
	}
	return nil
}

func (c *Connection) unsubscribe(ctx context.Context, topic string) (ending, error) {
	for {
		sub, s, err := c.topics.find(topic)
		if err != nil || s == nil {
			return ending{}, err
		}
		select {
		case <-s.settled: // it is told of no subscription again
		case <-s.ended:
		case <-ctx.Done():
			return ending{}, ctx.Err()
		}
		if !c.topics.leave(s, sub) {
			continue
		}
		e, err := s.commandLate(ctx, len(topic)+ctlSize, func(b []byte, id uint64) []byte {
			return wire.AppendUnsubscribe(b, id, []byte(topic))
		}, func() { c.topics.drop(sub) })
		if err != nil && ctx.Err() == nil {
			err = nil // the session has ended, and with it what it subscribed
		}
		return e, err
	}
}

// resubscribe tells a further session of the subscriptions, each once, waits
// until they are effective, and lets requests in.
func (c *Connection) resubscribe(s *session, subs []*subscription, credit int) {
	ctx := context.Background() // it ends with the session
	c.topics.grant(s, credit)
	calls := make([]*call, 0, len(subs))
	for _, sub := range subs {
		call := s.calls.borrow()
		id, err := s.calls.add(ctx, call)
		if err != nil {
			break
		}
		calls = append(calls, call)
		_ = s.write(ctx, len(sub.topic)+ctlSize, func(b []byte) []byte { return wire.AppendSubscribe(b, id, []byte(sub.topic)) })
	}
	for i, call := range calls {
		<-call.done
		if call.err == nil && call.code != wire.CodeOK {
			c.log.Error("iris: not subscribed again", "topic", subs[i].topic, "err", outcome("subscribe", call.code, call.text))
		}
		s.calls.release(call)
	}
	close(s.settled)
	c.activate(s)
}
