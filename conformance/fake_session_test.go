package conformance

import (
	"fmt"
	"net"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// command does what an application asks for.
func (c *fakeClient) command(cmd fakeCommand) {
	s := c.s
	switch {
	case cmd.Op == "close":
		c.close()
		s.ok(cmd.ID, nil)
		return
	case cmd.Op == "tunnel-accept":
		c.accepts = append(c.accepts, cmd)
		c.hand()
		return
	case c.over:
		s.fail(cmd.ID, "closed", "")
		return
	case c.nc == nil || c.leaving:
		s.bound(cmd, nil)
		c.waiting = append(c.waiting, cmd)
		return
	case len(cmd.Cluster) > int(c.limits.Name) || len(cmd.Topic) > int(c.limits.Name) || len(cmd.Payload) > int(c.limits.Payload),
		len(cmd.Headers) > 64, len(wire.EncodeHeaders(cmd.Headers)) > int(c.limits.Headers):
		s.fail(cmd.ID, "too-large", "")
		return
	case cmd.Op == "request" && cmd.Cluster == "":
		s.fail(cmd.ID, "invalid", "")
		return
	}
	if _, open := s.open[cmd.ID]; !open { // its time is over
		return
	}
	headers := wire.EncodeHeaders(cmd.Headers)
	if s.mistake == "headers are left out" {
		headers = nil
	}
	switch cmd.Op {
	case "request":
		c.request(cmd, headers)
	case "broadcast":
		c.send(wire.AppendBroadcast(nil, wire.Broadcast{Cluster: []byte(cmd.Cluster), Headers: headers, Payload: cmd.Payload}))
		s.ok(cmd.ID, nil)
	case "publish":
		c.send(wire.AppendPublish(nil, wire.Publish{Topic: []byte(cmd.Topic), Headers: headers, Payload: cmd.Payload}))
		s.ok(cmd.ID, nil)
	case "subscribe":
		c.send(wire.AppendCredit(nil, wire.KindEvent, 1000))
		c.subscribe(cmd.ID, cmd.Topic)
		if s.mistake == "a subscribe does not wait" {
			s.ok(cmd.ID, nil)
		}
	case "unsubscribe":
		id := c.call(cmd.ID, func(wire.Code) { delete(c.topics, cmd.Topic) })
		c.send(wire.AppendUnsubscribe(nil, id, []byte(cmd.Topic)))
	case "tunnel-open":
		c.openTunnel(cmd, headers)
	case "drain":
		c.draining = cmd.ID
		c.send(wire.AppendDrain(nil))
	default:
		s.fail(cmd.ID, "unsupported", "")
	}
}

// call makes an id under which the node tells the outcome.
func (c *fakeClient) call(id int, done func(wire.Code)) uint64 {
	if c.lastID++; c.s.mistake == "all requests have one id" {
		c.lastID = 1
	}
	c.calls[c.lastID] = &fakeCall{id, done}
	return c.lastID
}

func (c *fakeClient) subscribe(id int, topic string) {
	c.topics[topic] = true
	number := c.call(id, func(code wire.Code) {
		if code != wire.CodeOK {
			delete(c.topics, topic)
		}
	})
	c.send(wire.AppendSubscribe(nil, number, []byte(topic)))
}

func (c *fakeClient) request(cmd fakeCommand, headers wire.Headers) {
	id := c.call(cmd.ID, nil)
	c.s.bound(cmd, func(string) {
		if c.s.mistake != "a cancel is not told" {
			c.send(wire.AppendCancel(nil, id))
		}
	})
	c.send(wire.AppendRequest(nil, wire.Request{ID: id, Cluster: []byte(cmd.Cluster), Budget: cmd.budget(), Headers: headers, Payload: cmd.Payload}))
}

// outcome names a code for the suite. relay.md 7.2.
func outcome(code wire.Code) string {
	if name := codeName(uint64(code)); name != "" {
		return name
	}
	return "lost"
}

// frame handles one frame.
func (c *fakeClient) frame(content []byte) error {
	op, err := wire.ParseOp(content)
	if err != nil {
		return err
	}
	switch op {
	case wire.OpPing:
		token, err := wire.ParsePing(content)
		if c.s.mistake == "a pong has another token" {
			token++
		}
		if err == nil {
			c.send(wire.AppendPong(nil, token))
		}
		return err
	case wire.OpPong:
		_, err := wire.ParsePong(content)
		return err
	case wire.OpBye:
		if _, _, err := wire.ParseBye(content); err != nil {
			return err
		}
		return net.ErrClosed
	case wire.OpLeaving:
		c.leaving = c.s.mistake != "leaving is ignored"
		return wire.ParseLeaving(content)
	case wire.OpDrained:
		c.drained = true
		c.settle()
		return wire.ParseDrained(content)
	case wire.OpReply, wire.OpDone:
		return c.answered(op, content)
	case wire.OpRequest, wire.OpCancel, wire.OpBroadcast, wire.OpEvent:
		return c.message(op, content)
	case wire.OpOpen, wire.OpOpened, wire.OpData, wire.OpAllow, wire.OpFinish, wire.OpAbort:
		return c.tunnelFrame(op, content)
	}
	return unexpected("not of a node")
}

func (c *fakeClient) answered(op wire.Op, content []byte) error {
	r := wire.Reply{}
	var err error
	if op == wire.OpReply {
		r, err = wire.ParseReply(content)
	} else {
		var text string
		r.ID, r.Code, text, err = wire.ParseDone(content)
		r.Text = []byte(text)
	}
	call := c.calls[r.ID]
	if err != nil || call == nil {
		return err
	}
	delete(c.calls, r.ID)
	if call.done != nil {
		call.done(r.Code)
	}
	headers := map[string]string{}
	for name, value := range r.Headers.All() {
		headers[name] = value
	}
	switch {
	case r.Code == wire.CodeOK && op == wire.OpDone:
		c.s.ok(call.id, nil)
	case r.Code == wire.CodeOK || c.s.mistake == "a payload makes a success" && len(r.Payload) > 0:
		c.s.ok(call.id, line{"payload": r.Payload, "headers": headers})
	case c.s.mistake == "overloaded is no-service" && r.Code == wire.CodeOverloaded:
		c.s.fail(call.id, "no-service", "")
	default:
		c.s.fail(call.id, outcome(r.Code), string(r.Text))
	}
	return nil
}

// message handles what the node gives.
func (c *fakeClient) message(op wire.Op, content []byte) error {
	notice := func(kind string, h wire.Headers, payload []byte, more line) {
		headers := map[string]string{}
		for name, value := range h.All() {
			headers[name] = value
		}
		n := line{"notice": kind, "conn": c.name, "headers": headers, "payload": payload}
		for key, v := range more {
			n[key] = v
		}
		_ = c.s.out.Encode(n)
	}
	switch op {
	case wire.OpRequest:
		r, err := wire.ParseRequest(content)
		if err != nil {
			return err
		}
		if !c.service {
			return unexpected("a request to a client")
		}
		c.s.last++
		name := fmt.Sprint("r", c.s.last)
		g := &fakeGiven{c: c, nc: c.nc, id: r.ID}
		c.s.requests[name], c.given[r.ID] = g, g
		more := line{"request": name}
		if r.Budget != wire.NoDeadline {
			more["budget_ms"] = r.Budget
			g.timer = time.AfterFunc(time.Duration(r.Budget)*time.Millisecond, func() {})
		}
		notice("request", r.Headers, r.Payload, more)
	case wire.OpCancel:
		id, err := wire.ParseCancel(content)
		if err != nil {
			return err
		}
		if !c.service {
			return unexpected("a cancel to a client")
		}
		for name, g := range c.s.requests {
			if g.c == c && g.id == id && !g.over {
				g.over = true
				delete(c.given, id)
				_ = c.s.out.Encode(line{"notice": "cancelled", "request": name})
			}
		}
		c.settle()
	case wire.OpBroadcast:
		b, err := wire.ParseBroadcast(content)
		if err != nil {
			return err
		}
		if !c.service {
			return unexpected("a broadcast to a client")
		}
		c.send(wire.AppendCredit(nil, wire.KindBroadcast, 1))
		notice("broadcast", b.Headers, b.Payload, nil)
	case wire.OpEvent:
		e, err := wire.ParseEvent(content)
		if err != nil {
			return err
		}
		c.send(wire.AppendCredit(nil, wire.KindEvent, 1))
		if c.topics[string(e.Topic)] {
			notice("event", e.Headers, e.Payload, line{"topic": string(e.Topic)})
		}
	}
	return nil
}

// reply sends what a handler returned.
func (s *fakeSubject) reply(cmd fakeCommand) {
	g := s.requests[cmd.Request]
	if g == nil {
		return
	}
	delete(s.requests, cmd.Request)
	c := g.c
	if g.over || g.nc != any(c.nc) {
		return
	}
	delete(c.given, g.id)
	r := wire.Reply{ID: g.id, Headers: wire.EncodeHeaders(cmd.Headers), Payload: cmd.Payload}
	switch {
	case cmd.Error != nil:
		r.Code, r.Text = wire.CodeFailed, wire.Text([]byte(*cmd.Error))
	case len(cmd.Payload) > int(c.limits.Payload):
		r = wire.Reply{ID: g.id, Code: wire.CodeFailed, Text: []byte("too large")}
	}
	if s.mistake == "a failure has a code of the node" && r.Code == wire.CodeFailed {
		r.Code = wire.CodeInvalid
	}
	c.send(wire.AppendReply(nil, r))
	if s.mistake != "credit is not granted again" {
		c.send(wire.AppendCredit(nil, wire.KindRequest, 1))
	}
	c.settle()
}

// settle ends a drain when all is done.
func (c *fakeClient) settle() {
	if c.draining == 0 || !c.drained || len(c.given) > 0 {
		return
	}
	c.send(wire.AppendBye(nil, wire.CodeOK, ""))
	c.over = true
	c.lose()
}
