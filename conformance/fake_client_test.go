package conformance

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/project-iris/iris/spec/endpoint"
	"github.com/project-iris/iris/spec/wire"
)

// A fakeClient is a connection of a fakeSubject, and its successors.
type fakeClient struct {
	s         *fakeSubject
	name      string
	cluster   string
	port      int
	service   bool
	slots     uint32 // requests at once
	maxTunnel int
	reconnect time.Duration

	nc       net.Conn // nil while there is none
	limits   wire.Limits
	over     bool // closed for good
	lastID   uint64
	calls    map[uint64]*fakeCall
	topics   map[string]bool
	given    map[uint64]*fakeGiven
	tunnels  map[uint64]*fakeTunnel
	waiting  []fakeCommand // until there is a node
	taken    []*fakeTunnel // that nobody has accepted
	accepts  []fakeCommand
	draining int // id of the command
	drained  bool
	leaving  bool
}

// A fakeCall waits for a reply or a done.
type fakeCall struct {
	id   int
	done func(code wire.Code)
}

func (s *fakeSubject) attach(cmd fakeCommand) {
	c := &fakeClient{s: s, name: cmd.Conn, cluster: cmd.Cluster, port: cmd.Port, service: cmd.Op == "register", slots: 1000, maxTunnel: 1000, reconnect: 30 * time.Second}
	if cmd.Reconnect != nil {
		c.reconnect = time.Duration(*cmd.Reconnect) * time.Millisecond
	}
	if cmd.Limits != nil {
		c.slots, c.maxTunnel = uint32(cmd.Limits.Requests+cmd.Limits.Queue), cmd.Limits.Tunnels
	}
	s.conns[cmd.Conn] = c
	go c.live(cmd.ID)
}

// live attaches, again and again.
func (c *fakeClient) live(id int) {
	name, text, r := c.open()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if name != "" {
		c.over = true
		c.s.fail(id, name, text)
		return // nothing to read
	}
	c.s.ok(id, nil)
	for {
		c.read(r)
		if c.over {
			return
		}
		for lost := time.Now(); ; {
			if time.Since(lost) >= c.reconnect {
				c.giveUp("the node is gone")
				return
			}
			c.s.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			name, _, r = c.open()
			c.s.mu.Lock()
			if name == "" || c.over {
				break
			}
			if name == "name" || name == "version" {
				c.giveUp(name)
				return
			}
		}
		if c.over {
			return
		}
		waiting := c.waiting
		c.waiting = nil
		for _, cmd := range waiting {
			c.command(cmd)
		}
	}
}

func (c *fakeClient) giveUp(text string) {
	c.over = true
	if c.service {
		_ = c.s.out.Encode(line{"notice": "dropped", "conn": c.name, "text": text})
	}
	for _, cmd := range c.waiting {
		c.s.fail(cmd.ID, "closed", text)
	}
}

// open attaches once, and begins what a session begins with.
func (c *fakeClient) open() (failure, text string, r *wire.Reader) {
	nc, err := endpoint.Dial(context.Background(), c.port)
	if err != nil {
		return "no-node", err.Error(), nil
	}
	hello := wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1, Cluster: []byte(c.cluster)})
	if c.s.mistake == "a ping comes before the welcome" {
		hello = wire.AppendPing(hello, 1)
	}
	_, _ = nc.Write(hello)
	r = wire.NewReader(nc, wire.HandshakeFrame)
	w, failure, text := c.welcome(r)
	if failure != "" {
		_ = nc.Close()
		return failure, text, nil
	}
	r.SetLimit(w.Limits.Frame)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.over {
		_ = nc.Close()
		return "closed", "", nil
	}
	c.nc, c.limits, c.leaving = nc, w.Limits, false
	c.calls, c.given, c.tunnels = map[uint64]*fakeCall{}, map[uint64]*fakeGiven{}, map[uint64]*fakeTunnel{}
	c.begin()
	return "", "", r
}

func (c *fakeClient) begin() {
	if c.service && c.s.mistake != "credit is not granted" {
		c.send(wire.AppendCredit(nil, wire.KindRequest, c.slots))
		c.send(wire.AppendCredit(nil, wire.KindBroadcast, 1000))
	}
	topics := c.topics
	c.topics = map[string]bool{}
	if len(topics) > 0 {
		c.send(wire.AppendCredit(nil, wire.KindEvent, 1000))
	}
	for topic := range topics {
		if c.s.mistake != "subscriptions are forgotten" {
			c.subscribe(0, topic)
		}
	}
}

func (c *fakeClient) welcome(r *wire.Reader) (w wire.Welcome, failure, text string) {
	content, err := r.Next()
	if err == nil {
		op, bad := wire.ParseOp(content)
		switch {
		case bad != nil:
			err = bad
		case op == wire.OpWelcome:
			w, err = wire.ParseWelcome(content)
			if err == nil && w.Version != 1 {
				return w, "protocol", "version"
			}
		case op == wire.OpRefuse:
			var code wire.Code
			if code, text, err = wire.ParseRefuse(content); err == nil {
				for name, number := range codes {
					if number == uint64(code) {
						return w, name, text
					}
				}
				return w, "not-ready", text
			}
		default:
			return w, "protocol", op.String()
		}
	}
	var broken *wire.Error
	switch {
	case errors.As(err, &broken):
		return w, "protocol", err.Error()
	case err != nil:
		return w, "no-node", err.Error()
	}
	return w, "", ""
}

func (c *fakeClient) send(frame []byte) {
	if c.nc != nil {
		_ = c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.nc.Write(frame)
	}
}

// read handles frames until the session ends.
func (c *fakeClient) read(r *wire.Reader) {
	for {
		c.s.mu.Unlock()
		content, err := r.Next()
		c.s.mu.Lock()
		if err == nil {
			err = c.frame(content)
		}
		if err == nil && c.leaving && len(c.calls)+len(c.tunnels) == 0 && !c.service {
			c.send(wire.AppendBye(nil, wire.CodeOK, ""))
			err = net.ErrClosed
		}
		if err != nil {
			var broken *wire.Error
			if errors.As(err, &broken) && c.nc != nil && c.s.mistake != "it goes without a bye" {
				c.send(wire.AppendBye(nil, broken.Code, broken.Text))
			}
			c.lose()
			return
		}
	}
}

// lose ends all that a session has.
func (c *fakeClient) lose() {
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc = nil
	}
	for _, call := range c.calls {
		c.s.fail(call.id, "lost", "")
	}
	for _, t := range c.tunnels {
		t.end("lost", "")
	}
	for _, g := range c.given {
		g.over = true
	}
	if c.draining != 0 {
		c.over = true
		c.s.ok(c.draining, nil)
	}
}

// close ends the connection for good.
func (c *fakeClient) close() {
	c.send(wire.AppendBye(nil, wire.CodeOK, ""))
	c.over = true
	for _, call := range c.calls {
		c.s.fail(call.id, "closed", "")
	}
	for _, cmd := range c.waiting {
		c.s.fail(cmd.ID, "closed", "")
	}
	c.waiting = nil
	c.lose()
}
