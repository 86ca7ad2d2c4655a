package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

// HandleBroadcast notes that a broadcast has come.
func (c *counter) HandleBroadcast([]byte) {
	select {
	case c.heard <- struct{}{}:
	default: // nobody waits for more than one
	}
}

// HandleTunnel counts the words of what comes and sends back how many.
func (c *counter) HandleTunnel(t *iris.Tunnel) {
	words := uint64(0)
	for {
		part, err := t.Recv(context.Background()) // it ends with the tunnel
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
		for _, n := range count(string(part)) {
			words += uint64(n)
		}
	}
	if t.Send(context.Background(), binary.BigEndian.AppendUint64(nil, words)) == nil {
		_ = t.Close() // the client has what it wants
	}
}

// A watcher gets the events of the demo.
type watcher struct{ events chan string }

// HandleEvent passes an event on.
func (w *watcher) HandleEvent(event []byte) {
	select {
	case w.events <- string(event):
	default: // there is one only
	}
}

// showOthers plays broadcast, publish/subscribe and a tunnel, from node 3.
func showOthers(ctx context.Context, out io.Writer, nodes *cluster.Cluster, counters []*counter, conn *iris.Connection, text string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := conn.Broadcast(ctx, "wordcount", []byte("hello, all of you")); err != nil {
		return err
	}
	for _, c := range counters {
		if err := await(ctx, "a broadcast to "+c.name, c.heard); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "A broadcast reached all %d members of the cluster.\n", len(counters))

	if err := showTopic(ctx, out, nodes, conn); err != nil {
		return err
	}
	return showTunnel(ctx, out, conn, text)
}

func showTopic(ctx context.Context, out io.Writer, nodes *cluster.Cluster, conn *iris.Connection) error {
	subscriber, err := iris.Connect(nodes.Nodes[1].Port, iris.WithDialer(nodes.Nodes[1].Dial))
	if err != nil {
		return err
	}
	defer subscriber.Close()
	w := &watcher{events: make(chan string, 1)}
	if err := subscriber.Subscribe(ctx, "news", w, nil); err != nil {
		return err
	}
	if err := conn.Publish(ctx, "news", []byte("words were counted")); err != nil {
		return err
	}
	select {
	case event := <-w.events:
		fmt.Fprintf(out, "A subscriber on node 2 got the event %q from node 3.\n", event)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("demo: no event came: %w", ctx.Err())
	}
}

func showTunnel(ctx context.Context, out io.Writer, conn *iris.Connection, text string) error {
	t, err := conn.Tunnel(ctx, "wordcount")
	if err != nil {
		return err
	}
	for _, part := range split(text, partBytes) {
		if err := t.Send(ctx, []byte(part)); err != nil {
			return err
		}
	}
	if err := t.CloseSend(); err != nil {
		return err
	}
	answer, err := t.Recv(ctx)
	if err != nil {
		return err
	}
	want := 0
	for _, n := range count(text) {
		want += n
	}
	if len(answer) != 8 || binary.BigEndian.Uint64(answer) != uint64(want) {
		return fmt.Errorf("demo: the tunnel answered %x, the text has %d words", answer, want)
	}
	fmt.Fprintf(out, "A tunnel carried the whole text to one member, which counted %d words.\n\n", want)
	return t.Close()
}

func await(ctx context.Context, what string, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("demo: %s did not come: %w", what, ctx.Err())
	}
}
