// Package subject drives package iris for the conformance suite: each command is one
// call. See conformance/docs/subject.md.
package subject

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// A command is one line of the suite's.
type command struct {
	ID, Port, Command                              int
	Op, Conn, Cluster, Topic, Tunnel, Request, How string
	Error, Reason                                  string
	Payload                                        []byte
	Headers                                        map[string]string
	Limits                                         struct{ Requests, Queue, Tunnels int }
	Timeout                                        *int `json:"timeout_ms"`
	Reconnect                                      *int `json:"reconnect_ms"`
}

// fields are a line of the subject's.
type fields map[string]any

// A subject has what the suite refers to by names.
type subject struct {
	mu                               sync.Mutex // guards out
	out                              *json.Encoder
	conns, tunnels, replies, cancels sync.Map // *attached, *tunnel, chan command, context.CancelFunc
	names                            atomic.Int64
}

// Run answers the commands of in until it ends.
func Run(in io.Reader, out io.Writer) {
	s := &subject{out: json.NewEncoder(out)}
	lanes := map[string]chan struct{}{} // closed when the last command of a lane has ended
	lines := bufio.NewReader(in)
	for line, err := lines.ReadBytes('\n'); err == nil; line, err = lines.ReadBytes('\n') {
		var c command
		if json.Unmarshal(line, &c) != nil || c.Op == "" {
			s.tell(fields{"id": c.ID, "error": "bad-command"})
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		if c.Timeout != nil {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(*c.Timeout)*time.Millisecond)
		}
		s.cancels.Store(c.ID, cancel)
		lane := laneOf(c)
		before, done := lanes[lane], make(chan struct{})
		lanes[lane] = done
		go func() { // the process ends with its input, whatever runs
			defer close(done)
			defer cancel()
			if before != nil {
				<-before
			}
			if ok, err := s.do(ctx, c); err != nil {
				name, text := errorName(err)
				s.tell(fields{"id": c.ID, "error": name, "text": text})
			} else {
				s.tell(fields{"id": c.ID, "ok": ok})
			}
		}()
	}
	s.conns.Range(func(_, a any) bool { return a.(*attached).end() == nil })
}

// laneOf names what must leave in the order of the commands; others have a lane each.
func laneOf(c command) string {
	switch {
	case c.Op == "broadcast" || c.Op == "publish":
		return "conn " + c.Conn
	case c.Op == "tunnel-send" || c.Op == "tunnel-close" && c.How != "abort":
		return "tunnel " + c.Tunnel
	}
	return strconv.Itoa(c.ID)
}

func (s *subject) tell(line fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(line) // if the suite is gone, so is the input, soon
}

// notice tells what a handler got.
func (a *attached) notice(what string, payload []byte, headers map[string]string, more fields) {
	line := fields{"notice": what, "conn": a.name, "payload": payload, "headers": headers}
	maps.Copy(line, more)
	a.s.tell(line)
}

var errUnsupported = errors.New("unsupported")

// errorName is docs/subject.md, Errors.
func errorName(err error) (name, text string) {
	var remote *iris.RemoteError
	var refused *iris.RefusedError
	switch {
	case errors.As(err, &remote):
		return "failed", remote.Message
	case errors.As(err, &refused):
		return refused.Reason, refused.Message
	}
	for _, e := range []struct {
		err  error
		name string
	}{{errUnsupported, "unsupported"}, {io.EOF, "end"}, {iris.ErrTooLarge, "too-large"}, {iris.ErrLost, "lost"}, {iris.ErrNoNode, "no-node"}, {context.DeadlineExceeded, "timeout"}, {iris.ErrTimeout, "timeout"},
		{context.Canceled, "cancelled"}, {iris.ErrNoService, "no-service"}, {iris.ErrOverloaded, "overloaded"}, {iris.ErrInvalid, "invalid"},
		{iris.ErrProtocol, "protocol"}, {iris.ErrClosed, "closed"}} {
		if errors.Is(err, e.err) {
			return e.name, err.Error()
		}
	}
	return "other", err.Error()
}
