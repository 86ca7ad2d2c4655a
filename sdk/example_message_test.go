package iris_test

import (
	"context"
	"fmt"
	"log"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// A tracedBoard sees the headers of events.
type tracedBoard struct{ board }

func (b *tracedBoard) HandleEventMessage(event *iris.Message) {
	fmt.Printf("%s, traced as %s\n", event.Payload, event.Headers["traceparent"])
	b.seen <- struct{}{}
}

func ExampleEventMessageHandler() {
	defer startNode()()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	news := &tracedBoard{board{make(chan struct{})}}
	if err := conn.Subscribe(ctx, "news", news, nil); err != nil {
		log.Fatal(err)
	}
	trace := iris.WithHeaders(map[string]string{"traceparent": "00-4bf9-00f0-01"})
	if err := conn.Publish(ctx, "news", []byte("rain"), trace); err != nil {
		log.Fatal(err)
	}
	<-news.seen
	// Output: rain, traced as 00-4bf9-00f0-01
}

// A tracedListener is a service that sees the headers of broadcasts.
type tracedListener struct {
	callback
	tracedBoard
}

func (l *tracedListener) HandleBroadcastMessage(message *iris.Message) { l.HandleEventMessage(message) }

func ExampleBroadcastMessageHandler() {
	defer startNode()()
	l := &tracedListener{tracedBoard: tracedBoard{board{make(chan struct{})}}}
	service, err := iris.Register(55555, "demo", l, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Unregister()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	trace := iris.WithHeaders(map[string]string{"traceparent": "00-4bf9-00f0-01"})
	if err := conn.Broadcast(context.Background(), "demo", []byte("reload"), trace); err != nil {
		log.Fatal(err)
	}
	<-l.seen
	// Output: reload, traced as 00-4bf9-00f0-01
}

// A librarian sends the book that the tunnel was opened for.
type librarian struct{ callback }

func (l *librarian) HandleTunnel(tunnel *iris.Tunnel) {
	title := tunnel.Headers()["title"]
	_ = tunnel.Send(context.Background(), []byte("first page of "+title)) // the reader may be gone
}

func ExampleTunnel_Headers() {
	defer startNode()()
	service, err := iris.Register(55555, "library", new(librarian), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Unregister()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tunnel, err := conn.Tunnel(ctx, "library", iris.WithHeaders(map[string]string{"title": "Moby Dick"}))
	if err != nil {
		log.Fatal(err)
	}
	defer tunnel.Close()
	page, err := tunnel.Recv(ctx)
	fmt.Printf("%s %v\n", page, err)
	// Output: first page of Moby Dick <nil>
}

// Headers that are given in several places add up.
func ExampleWithHeaders() {
	defer startNode()()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	trace := iris.WithHeaders(map[string]string{"traceparent": "00-4bf9-00f0-01"})
	kind := iris.WithHeaders(map[string]string{"content-type": "text/plain"})
	fmt.Println(conn.Publish(context.Background(), "news", []byte("sun"), trace, kind))
	// Output: <nil>
}
