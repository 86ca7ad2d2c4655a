package conformance

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
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
	attached  bool // once

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
	credit   [3]uint32 // that the node has
	held     []byte    // a frame that another overtakes
	pongs    []uint64  // that wait for the handlers
	heard    *time.Timer
	pinged   bool
}

// A fakeCall waits for a reply or a done.
type fakeCall struct {
	id   int
	cmd  fakeCommand // a request
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
			if name == "name" && c.s.mistake != "a refusal is never for good" || name == "version" || name == "limit" && c.s.mistake == "limit is for good" {
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
	nc, err := c.dial()
	if err != nil {
		return "no-node", err.Error(), nil
	}
	hello := c.hello()
	_, _ = nc.Write(hello)
	if c.s.mistake == "a welcome that does not come is asked for" {
		asking := time.AfterFunc(100*time.Millisecond, func() { _, _ = nc.Write(wire.AppendPing(nil, 1)) })
		defer asking.Stop()
	}
	r = wire.NewReader(nc, wire.HandshakeFrame)
	w, failure, text := c.welcome(r)
	if failure != "" {
		_ = nc.Close()
		return failure, text, nil
	}
	if c.s.mistake == "the limits of the welcome are not looked at" {
		w.Limits = wire.DefaultLimits()
	}
	r.SetLimit(w.Limits.Frame)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.over {
		_ = nc.Close()
		return "closed", "", nil
	}
	c.nc, c.limits, c.leaving = nc, w.Limits, false
	c.credit = [3]uint32{}
	c.watch(nc)
	c.calls, c.given, c.tunnels = map[uint64]*fakeCall{}, map[uint64]*fakeGiven{}, map[uint64]*fakeTunnel{}
	c.begin()
	return "", "", r
}

// dial finds the node: relay.md 1.2.
func (c *fakeClient) dial() (net.Conn, error) {
	tcp := "127.0.0.1:" + strconv.Itoa(c.port)
	switch c.s.mistake {
	case "the socket is passed over":
		return net.Dial("tcp", tcp)
	case "any folder is trusted":
		path := filepath.Join(os.Getenv("IRIS_RUNTIME_DIR"), strconv.Itoa(c.port)+".sock")
		if nc, err := net.Dial("unix", path); err == nil {
			return nc, nil
		}
	}
	return endpoint.Dial(context.Background(), c.port)
}

func (c *fakeClient) hello() []byte {
	hello := wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1, Cluster: []byte(c.cluster)})
	switch c.s.mistake {
	case "names are cut at 64 bytes":
		hello = wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1, Cluster: []byte(c.cluster[:min(64, len(c.cluster))])})
	case "a head has two bytes more than it needs":
		hello = append([]byte{0xc6, 0, 0, 0}, hello[1:]...)
	}
	return hello
}

// watch begins to keep the time of relay.md 6.2. The caller holds mu.
func (c *fakeClient) watch(nc net.Conn) {
	c.pinged = false
	c.heard = time.AfterFunc(c.s.quiet, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		switch {
		case c.nc != nc || c.s.mistake == "a node that is quiet is not asked":
		case !c.pinged:
			c.pinged = true
			c.send(wire.AppendPing(nil, 1))
			c.heard.Reset(c.s.quiet)
		case c.s.mistake != "a node that does not answer is kept":
			c.send(wire.AppendBye(nil, wire.CodeUnresponsive, ""))
			_ = nc.Close()
		}
	})
}

func (c *fakeClient) begin() {
	if c.attached && c.s.mistake == "credit is granted once for all" {
		return
	}
	c.attached = true
	if c.service {
		c.grant(wire.KindRequest, c.slots)
	}
	if c.service && c.s.mistake != "credit for broadcasts is not granted" {
		c.grant(wire.KindBroadcast, 1000)
	}
	topics := c.topics
	c.topics = map[string]bool{}
	if len(topics) > 0 {
		c.grant(wire.KindEvent, 1000)
	}
	for topic := range topics {
		switch c.s.mistake {
		case "subscriptions are forgotten":
			continue
		case "subscriptions are asked for twice":
			c.subscribe(0, topic)
		}
		c.subscribe(0, topic)
	}
}

// grant grants credit.
func (c *fakeClient) grant(kind, n uint32) {
	c.credit[kind] += n
	c.send(wire.AppendCredit(nil, kind, n))
}

// take uses up a credit. relay.md 5.5.
func (c *fakeClient) take(kind uint32) error {
	if c.credit[kind] == 0 {
		if c.s.mistake == "a message without credit is taken" {
			return nil
		}
		return unexpected("no credit")
	}
	c.credit[kind]--
	return nil
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
			if err == nil && w.Version != 1 && c.s.mistake != "any version of a welcome is taken" {
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
				if c.s.mistake == "a refusal that is not listed is other" {
					return w, "other", text
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
			if errors.As(err, &broken) && c.nc != nil && (broken.Code != wire.CodeTooLarge || c.s.mistake != "what is too large is not told") {
				code := broken.Code
				if code == wire.CodeTooLarge && c.s.mistake == "too large is malformed" {
					code = wire.CodeMalformed
				}
				c.send(wire.AppendBye(nil, code, broken.Text))
			}
			if c.s.mistake == "a cut frame is an error of the protocol" && errors.Is(err, io.ErrUnexpectedEOF) {
				c.giveUp("a cut frame")
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
		c.heard.Stop()
	}
	for _, call := range c.calls {
		if call.cmd.Op != "" && !c.over && c.s.mistake == "a lost request is sent again" {
			c.waiting = append(c.waiting, call.cmd)
			continue
		}
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
	if c.s.mistake != "a close says no bye" {
		c.send(wire.AppendBye(nil, wire.CodeOK, ""))
	}
	c.over = true
	for _, call := range c.calls {
		if c.s.mistake == "a close leaves requests unanswered" {
			delete(c.s.open, call.id)
		}
		c.s.fail(call.id, "closed", "")
	}
	for _, cmd := range c.waiting {
		c.s.fail(cmd.ID, "closed", "")
	}
	c.waiting = nil
	c.lose()
}
