package conformance

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestMain lets this program be its own subject: `conformance.test fake-subject MISTAKE [QUIET]`.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "fake-subject" {
		quiet := 15 * time.Second
		if len(os.Args) > 3 {
			quiet, _ = time.ParseDuration(os.Args[3])
		}
		runFakeSubject(os.Args[2], quiet, os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A fakeSubject is a binding of its own, with its subject, that follows relay.md
// and docs/subject.md but for one mistake, which a test chooses. It is as simple
// as it can be: one mutex, no bounds beyond the protocol's.
type fakeSubject struct {
	mistake string
	quiet   time.Duration // after which a node is asked, and given up

	mu       sync.Mutex // guards everything
	out      *json.Encoder
	conns    map[string]*fakeClient
	tunnels  map[string]*fakeTunnel
	requests map[string]*fakeGiven
	open     map[int]func(name string) // unanswered commands; called to give one up, may be nil
	last     int
}

// A fakeGiven is a request that a service was given.
type fakeGiven struct {
	c     *fakeClient
	nc    any // the connection that it came on
	id    uint64
	over  bool // nobody wants the reply any more
	timer *time.Timer
}

// A fakeCommand is a line of the suite's.
type fakeCommand struct {
	ID                                             int
	Op, Conn, Cluster, Topic, Tunnel, Request, How string
	Error                                          *string
	Reason                                         string
	Payload                                        []byte
	Headers                                        map[string]string
	Port, Command                                  int
	Limits                                         *struct{ Requests, Queue, Tunnels int }
	Timeout                                        *int `json:"timeout_ms"`
	Reconnect                                      *int `json:"reconnect_ms"`
}

// withConn are the ops for which a connection must be there.
var withConn = []string{"request", "broadcast", "publish", "subscribe", "unsubscribe", "tunnel-open", "tunnel-accept", "drain", "close"}

type line map[string]any

func runFakeSubject(mistake string, quiet time.Duration, in io.Reader, out io.Writer) {
	s := &fakeSubject{mistake: mistake, quiet: quiet, out: json.NewEncoder(out), conns: map[string]*fakeClient{}, tunnels: map[string]*fakeTunnel{}, requests: map[string]*fakeGiven{}, open: map[int]func(string){}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c fakeCommand
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		s.mu.Lock()
		s.open[c.ID] = nil
		s.command(c)
		s.mu.Unlock()
	}
	if s.mistake == "it goes on at the end of its input" {
		select {}
	}
}

// ok and fail answer a command, once.
func (s *fakeSubject) ok(id int, fields line) {
	if _, open := s.open[id]; open {
		delete(s.open, id)
		if fields == nil {
			fields = line{}
		}
		_ = s.out.Encode(line{"id": id, "ok": fields})
	}
}

func (s *fakeSubject) fail(id int, name, text string) {
	if _, open := s.open[id]; open {
		delete(s.open, id)
		_ = s.out.Encode(line{"id": id, "error": name, "text": text})
	}
}

// bound has a command given up when its time is over.
func (s *fakeSubject) bound(c fakeCommand, giveUp func(name string)) {
	s.open[c.ID] = giveUp
	if c.Timeout != nil {
		time.AfterFunc(time.Duration(*c.Timeout)*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.giveUp(c.ID, "timeout")
		})
	}
}

func (s *fakeSubject) giveUp(id int, name string) {
	if fn := s.open[id]; fn != nil {
		fn(name)
	}
	s.fail(id, name, "given up")
}

// budget is what is left of a command's time in milliseconds.
func (c fakeCommand) budget() uint32 {
	if c.Timeout == nil {
		return 1<<32 - 1
	}
	return uint32(*c.Timeout)
}

// budget is that of a command, as the client sends it.
func (s *fakeSubject) budget(c fakeCommand) uint32 {
	if c.Timeout != nil && s.mistake == "a budget is sent in seconds" {
		return c.budget() / 1000
	}
	return c.budget()
}

func (s *fakeSubject) command(c fakeCommand) {
	switch c.Op {
	case "info":
		s.ok(c.ID, line{"name": "fake", "version": "1", "language": "go", "protocol": []int{1}, "features": features})
	case "connect", "register":
		s.attach(c)
	case "cancel":
		s.giveUp(c.Command, "cancelled")
		s.ok(c.ID, nil)
	case "reply":
		s.reply(c)
		s.ok(c.ID, nil)
	case "tunnel-send", "tunnel-recv", "tunnel-close":
		if t := s.tunnels[c.Tunnel]; t != nil {
			t.command(c)
		} else {
			s.fail(c.ID, "bad-command", "no such tunnel")
		}
	default:
		client := s.conns[c.Conn]
		switch {
		case client == nil && slices.Contains(withConn, c.Op), client != nil && c.Op == "drain" && !client.service:
			s.fail(c.ID, "bad-command", "")
		case client != nil:
			client.command(c)
		case s.mistake == "an unknown op is ok":
			s.ok(c.ID, nil)
		default:
			s.fail(c.ID, "unsupported", "")
		}
	}
	if s.mistake == "it hangs at a tunnel" && c.Op == "tunnel-open" {
		select {}
	}
	if s.mistake == "it crashes at a tunnel" && c.Op == "tunnel-open" {
		os.Exit(7)
	}
}
