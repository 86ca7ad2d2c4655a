package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	iris "github.com/project-iris/iris/sdk"
)

// publish publishes one event, or each line of stdin as one.
func publish(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "publish")
	port := portFlag(flags)
	headers := headerFlag(flags)
	lines := flags.Bool("lines", false, "publish each line of stdin as an event of its own")
	if err := parse(flags, args, 1, 2); err != nil {
		return err
	}
	if *lines && flags.NArg() > 1 {
		return usagef("publish: -lines reads stdin: a message does not go with it")
	}
	return attached(ctx, *port, func(ctx context.Context, conn *iris.Connection) error {
		with := iris.WithHeaders(*headers)
		if *lines {
			return publishLines(ctx, conn, flags.Arg(0), std.In, with)
		}
		event, err := messageOf(std, flags.Arg(1))
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		return conn.Publish(ctx, flags.Arg(0), event, with)
	})
}

func publishLines(ctx context.Context, conn *iris.Connection, topic string, in io.Reader, with iris.MessageOption) error {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, maxMessage)
	for scanner.Scan() {
		if err := conn.Publish(ctx, topic, scanner.Bytes(), with); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("publish: read stdin: %w", err)
	}
	return nil
}

// subscribe prints the events of a topic until it is interrupted.
func subscribe(ctx context.Context, std Streams, args []string) error {
	flags := newFlags(std, "subscribe")
	port := portFlag(flags)
	asJSON := flags.Bool("json", false, "print each event as a line of JSON")
	count := flags.Int("count", 0, "end after this many events; 0: never")
	if err := parse(flags, args, 1, 1); err != nil {
		return err
	}
	p := &printer{out: std.Out, topic: flags.Arg(0), json: *asJSON, left: *count, done: make(chan error, 1)}
	return attached(ctx, *port, func(ctx context.Context, conn *iris.Connection) error {
		if err := conn.Subscribe(ctx, p.topic, p, nil); err != nil {
			return err
		}
		fmt.Fprintf(std.Err, "subscribed to %s: interrupt to stop\n", p.topic)
		select {
		case err := <-p.done:
			return err
		case <-ctx.Done():
			return nil
		}
	})
}

// A printer prints events.
type printer struct {
	out   io.Writer
	topic string
	json  bool
	done  chan error // capacity 1: why printing ended

	mu   sync.Mutex // guards the fields below
	left int        // until done; below 1: never
	over bool
}

// A printed event is one line of `subscribe -json`: text when it is UTF-8, bytes
// in base64 otherwise.
type printed struct {
	Time    time.Time         `json:"time"`
	Topic   string            `json:"topic"`
	Headers map[string]string `json:"headers,omitempty"`
	Text    string            `json:"text,omitempty"`
	Bytes   []byte            `json:"bytes,omitempty"`
}

// HandleEvent is for the sdk, which calls HandleEventMessage instead.
func (p *printer) HandleEvent(event []byte) { p.HandleEventMessage(&iris.Message{Payload: event}) }

// HandleEventMessage prints one event.
func (p *printer) HandleEventMessage(event *iris.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	err := p.print(event)
	p.left--
	if err != nil || p.left == 0 {
		p.over = true
		p.done <- err
	}
}

func (p *printer) print(event *iris.Message) error {
	if !p.json {
		_, err := fmt.Fprintf(p.out, "%s\n", event.Payload)
		return err
	}
	line := printed{Time: time.Now(), Topic: p.topic, Headers: event.Headers}
	if utf8.Valid(event.Payload) {
		line.Text = string(event.Payload)
	} else {
		line.Bytes = event.Payload
	}
	return json.NewEncoder(p.out).Encode(line)
}
