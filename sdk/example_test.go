package iris_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

// startNode runs a node without a network at port 55555, as `iris -dev` would.
func startNode() (stop func()) {
	dir, err := os.MkdirTemp("", "iris")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Setenv("IRIS_RUNTIME_DIR", dir); err != nil {
		log.Fatal(err)
	}
	node := fakenode.New(fakenode.Config{})
	if err := node.Listen(filepath.Join(dir, "55555.sock")); err != nil {
		log.Fatal(err)
	}
	return func() {
		node.Close()
		_ = os.RemoveAll(dir)
	}
}

// A client attaches to the node on its own host.
func Example_client() {
	defer startNode()()

	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatalf("failed to connect to the Iris relay: %v.", err)
	}
	defer conn.Close()

	fmt.Println("connected")
	// Output: connected
}

type callback struct{}

func (c *callback) Init(conn *iris.Connection) error             { return nil }
func (c *callback) HandleRequest(request []byte) ([]byte, error) { return request, nil }
func (c *callback) HandleBroadcast(message []byte)               {}
func (c *callback) HandleTunnel(tunnel *iris.Tunnel)             {}
func (c *callback) HandleDrop(reason error)                      {}

// A service joins a cluster under a name.
func Example_service() {
	defer startNode()()

	service, err := iris.Register(55555, "demo", new(callback), nil)
	if err != nil {
		log.Fatalf("failed to register to the Iris relay: %v.", err)
	}
	defer service.Unregister()

	fmt.Println("registered")
	// Output: registered
}

func ExampleConnection_Request() {
	defer startNode()()
	service, err := iris.Register(55555, "demo", new(callback), nil)
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
	reply, err := conn.Request(ctx, "demo", []byte("hello"))
	fmt.Printf("%s %v\n", reply, err)

	_, err = conn.Request(ctx, "nobody", nil)
	fmt.Println(errors.Is(err, iris.ErrNoService), err)
	// Output:
	// hello <nil>
	// true iris: request to "nobody": no such service
}

// A traced service sees the headers of a request and its deadline.
type traced struct{ callback }

func (t *traced) HandleRequestContext(ctx context.Context, r *iris.Request) (*iris.Reply, error) {
	_, bounded := ctx.Deadline()
	answer := fmt.Appendf(nil, "%s %v", r.Headers["traceparent"], bounded)
	return &iris.Reply{Payload: answer, Headers: map[string]string{"served-by": "traced"}}, nil
}

func ExampleConnection_Call() {
	defer startNode()()
	service, err := iris.Register(55555, "traced", new(traced), &iris.ServiceLimits{RequestThreads: 4})
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
	reply, err := conn.Call(ctx, &iris.Request{
		Cluster: "traced",
		Headers: map[string]string{"traceparent": "00-4bf9-00f0-01"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %s\n", reply.Payload, reply.Headers["served-by"])
	// Output: 00-4bf9-00f0-01 true, traced
}

// Shutdown is Unregister with a time of its own.
func ExampleService_Shutdown() {
	defer startNode()()
	service, err := iris.Register(55555, "demo", new(callback), nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // for handlers that take long
	defer cancel()
	fmt.Println(service.Shutdown(ctx))
	// Output: <nil>
}

// A board prints what is published.
type board struct{ seen chan struct{} }

func (b board) HandleEvent(event []byte) {
	fmt.Printf("%s\n", event)
	b.seen <- struct{}{}
}

func ExampleConnection_Subscribe() {
	defer startNode()()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	news := board{make(chan struct{})}
	if err := conn.Subscribe(ctx, "news", news, nil); err != nil {
		log.Fatal(err)
	}
	if err := conn.Publish(ctx, "news", []byte("it arrives: the subscription is effective")); err != nil {
		log.Fatal(err)
	}
	<-news.seen
	fmt.Println(conn.Unsubscribe(ctx, "news"))
	// Output:
	// it arrives: the subscription is effective
	// <nil>
}

func ExampleConnection_Publish() {
	defer startNode()()
	conn, err := iris.Connect(55555)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	fmt.Println(conn.Publish(context.Background(), "news", []byte("whoever listens")))
	// Output: <nil>
}

// A listener is a service that prints what is broadcast.
type listener struct {
	callback
	board
}

func (l *listener) HandleBroadcast(message []byte) { l.HandleEvent(message) }

func ExampleConnection_Broadcast() {
	defer startNode()()
	l := &listener{board: board{make(chan struct{})}}
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

	if err := conn.Broadcast(context.Background(), "demo", []byte("to all members")); err != nil {
		log.Fatal(err)
	}
	<-l.seen
	// Output: to all members
}

// A shouter answers every message of a tunnel until the other side finishes.
type shouter struct{ callback }

func (s *shouter) HandleTunnel(tunnel *iris.Tunnel) {
	ctx := context.Background()
	for {
		message, err := tunnel.Recv(ctx)
		if err != nil {
			return // the tunnel is closed
		}
		if err := tunnel.Send(ctx, bytes.ToUpper(message)); err != nil {
			return
		}
	}
}

func ExampleConnection_Tunnel() {
	defer startNode()()
	service, err := iris.Register(55555, "shout", new(shouter), nil)
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
	tunnel, err := conn.Tunnel(ctx, "shout")
	if err != nil {
		log.Fatal(err)
	}
	for _, word := range []string{"hello", "tunnel"} {
		if err := tunnel.Send(ctx, []byte(word)); err != nil {
			log.Fatal(err)
		}
	}
	if err := tunnel.CloseSend(); err != nil {
		log.Fatal(err)
	}
	for {
		reply, err := tunnel.Recv(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		fmt.Printf("%s\n", reply)
	}
	fmt.Println(tunnel.Close())
	// Output:
	// HELLO
	// TUNNEL
	// <nil>
}
