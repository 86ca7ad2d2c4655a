// Package subject drives package iris for the conformance suite, as
// conformance/docs/subject.md says.
package subject

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	iris "github.com/project-iris/iris/sdk"
)

// A command is one line of the suite's.
type command struct {
	ID                                             int
	Op, Conn, Cluster, Topic, Tunnel, Request, How string
	Error, Reason                                  string
	Payload                                        []byte
	Headers                                        map[string]string
	Port, Command                                  int
	Limits                                         *struct{ Requests, Queue, Tunnels int }
	Timeout                                        *int `json:"timeout_ms"`
	Reconnect                                      *int `json:"reconnect_ms"`
}

type fields map[string]any

// A subject has what the suite refers to by names.
type subject struct {
	mu      sync.Mutex // guards the fields below
	out     *json.Encoder
	conns   map[string]*attached
	tunnels map[string]*tunnel
	replies map[string]chan command
	cancels map[int]context.CancelFunc
	lanes   map[string]chan struct{} // closed when the last command of a lane has ended
	last    int
}

// Run answers the commands of in until it ends.
func Run(in io.Reader, out io.Writer) {
	s := &subject{out: json.NewEncoder(out), conns: map[string]*attached{}, tunnels: map[string]*tunnel{},
		replies: map[string]chan command{}, cancels: map[int]context.CancelFunc{}, lanes: map[string]chan struct{}{}}
	var running sync.WaitGroup
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			s.tell(fields{"id": c.ID, "error": "bad-command", "text": err.Error()})
			continue
		}
		ctx, cancel := c.context()
		s.mu.Lock()
		s.cancels[c.ID] = cancel
		before, done := s.lane(c)
		s.mu.Unlock()
		running.Go(func() {
			<-before
			s.answer(c, s.do, ctx)
			close(done)
			cancel()
		})
	}
	for _, a := range s.conns {
		a.close()
	}
}

// lane orders what is to leave in the order of the commands.
func (s *subject) lane(c command) (before, done chan struct{}) {
	done = make(chan struct{})
	name := ""
	switch {
	case c.Op == "broadcast" || c.Op == "publish":
		name = "conn " + c.Conn
	case c.Op == "tunnel-send" || c.Op == "tunnel-close" && c.How != "abort":
		name = "tunnel " + c.Tunnel
	}
	if before = s.lanes[name]; before == nil || name == "" {
		before = make(chan struct{})
		close(before)
	}
	s.lanes[name] = done
	return before, done
}

func (c command) context() (context.Context, context.CancelFunc) {
	if c.Timeout == nil {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), time.Duration(*c.Timeout)*time.Millisecond)
}

func (s *subject) tell(line fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(line) // the suite is gone: so is the input, soon
}

func (s *subject) answer(c command, do func(context.Context, command) (fields, error), ctx context.Context) {
	ok, err := do(ctx, c)
	s.mu.Lock()
	delete(s.cancels, c.ID)
	s.mu.Unlock()
	if err != nil {
		name, text := errorName(err)
		s.tell(fields{"id": c.ID, "error": name, "text": text})
		return
	}
	if ok == nil {
		ok = fields{}
	}
	s.tell(fields{"id": c.ID, "ok": ok})
}

func (s *subject) do(ctx context.Context, c command) (fields, error) {
	switch c.Op {
	case "info":
		return fields{"name": "iris", "version": "0.1.0", "language": "go", "protocol": []int{1}, "features": []string{
			"request", "service", "broadcast", "topic", "tunnel", "headers", "reconnect", "drain", "limits", "cancel"}}, nil
	case "connect", "register":
		return nil, s.attach(ctx, c)
	case "cancel":
		s.mu.Lock()
		defer s.mu.Unlock()
		if cancel := s.cancels[c.Command]; cancel != nil {
			cancel()
		}
		return nil, nil
	case "reply":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replies[c.Request] <- c
		return nil, nil
	case "tunnel-send", "tunnel-recv", "tunnel-close":
		s.mu.Lock()
		t := s.tunnels[c.Tunnel]
		s.mu.Unlock()
		if t == nil {
			return nil, fmt.Errorf("there is no tunnel %q", c.Tunnel)
		}
		return t.do(ctx, c)
	}
	s.mu.Lock()
	a := s.conns[c.Conn]
	s.mu.Unlock()
	if a == nil {
		return nil, errUnsupported
	}
	return a.do(ctx, c)
}

func (s *subject) attach(ctx context.Context, c command) error {
	a := &attached{s: s, name: c.Conn, tunnels: make(chan *tunnel, 1<<14), over: make(chan struct{})}
	var opts []iris.Option
	if c.Reconnect != nil {
		opts = append(opts, iris.WithReconnect(time.Duration(*c.Reconnect)*time.Millisecond))
	}
	if c.Op == "connect" {
		conn, err := iris.ConnectContext(ctx, c.Port, opts...)
		if err != nil {
			return err
		}
		return a.Init(conn)
	}
	l := &iris.ServiceLimits{}
	if c.Limits != nil {
		*l = iris.ServiceLimits{RequestThreads: c.Limits.Requests, RequestQueue: c.Limits.Queue, TunnelThreads: c.Limits.Tunnels}
		if l.RequestQueue == 0 {
			l.RequestQueue = -1
		}
	}
	service, err := iris.RegisterContext(ctx, c.Port, c.Cluster, a, l, opts...)
	a.service = service
	return err
}
