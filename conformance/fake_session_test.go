package conformance

import (
	"bytes"
	"fmt"
	"net"
	"time"
	"unicode/utf8"

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
	case c.tooLarge(cmd):
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
		frame := wire.AppendBroadcast(nil, wire.Broadcast{Cluster: []byte(cmd.Cluster), Headers: headers, Payload: cmd.Payload})
		if s.mistake == "two broadcasts change places" && string(cmd.Payload) == "41" {
			c.held = frame
		} else {
			c.send(append(frame, c.held...))
			c.held = nil
		}
		s.ok(cmd.ID, nil)
	case "publish":
		c.send(wire.AppendPublish(nil, wire.Publish{Topic: []byte(cmd.Topic), Headers: headers, Payload: cmd.Payload}))
		s.ok(cmd.ID, nil)
	case "subscribe":
		c.listen(cmd)
	case "unsubscribe":
		id := c.call(cmd.ID, func(wire.Code) {
			if s.mistake != "an unsubscribe changes nothing" {
				delete(c.topics, cmd.Topic)
			}
		})
		c.send(wire.AppendUnsubscribe(nil, id, []byte(cmd.Topic)))
	case "tunnel-open":
		c.openTunnel(cmd, headers)
	case "drain":
		c.draining = cmd.ID
		c.send(wire.AppendDrain(nil))
		if s.mistake == "a drain does not wait" {
			c.drained = true
			c.settle()
		}
	default:
		s.fail(cmd.ID, "unsupported", "")
	}
}

// listen subscribes, with credit.
func (c *fakeClient) listen(cmd fakeCommand) {
	late := c.s.mistake == "credit for events comes behind the subscribe"
	if !late {
		c.grant(wire.KindEvent, 1000)
	}
	if c.subscribe(cmd.ID, cmd.Topic); late {
		c.grant(wire.KindEvent, 1000)
	}
	if c.s.mistake == "a subscribe does not wait" {
		c.s.ok(cmd.ID, nil)
	}
}

// tooLarge tells whether a command breaks the node's limits. relay.md 4.1.
func (c *fakeClient) tooLarge(cmd fakeCommand) bool {
	payload, headers, name := int(c.limits.Payload), 64, len(cmd.Cluster)
	switch c.s.mistake {
	case "a payload of the limit is too large":
		payload--
	case "a payload may have a byte more":
		payload++
	case "64 headers are too many":
		headers--
	case "names are counted in characters":
		name = utf8.RuneCountInString(cmd.Cluster)
	}
	return name > int(c.limits.Name) || len(cmd.Topic) > int(c.limits.Name) || len(cmd.Payload) > payload ||
		len(cmd.Headers) > headers || len(wire.EncodeHeaders(cmd.Headers)) > int(c.limits.Headers)
}

// call makes an id under which the node tells the outcome.
func (c *fakeClient) call(id int, done func(wire.Code)) uint64 {
	if c.lastID++; c.s.mistake == "all requests have one id" {
		c.lastID = 1
	}
	c.calls[c.lastID] = &fakeCall{id: id, done: done}
	return c.lastID
}

func (c *fakeClient) subscribe(id int, topic string) {
	c.topics[topic] = true
	number := c.call(id, func(code wire.Code) {
		if code != wire.CodeOK && c.s.mistake != "a refused subscribe is subscribed" {
			delete(c.topics, topic)
		}
	})
	c.send(wire.AppendSubscribe(nil, number, []byte(topic)))
}

func (c *fakeClient) request(cmd fakeCommand, headers wire.Headers) {
	id := c.call(cmd.ID, nil)
	c.calls[id].cmd = cmd
	c.s.bound(cmd, func(string) {
		if c.s.mistake != "a cancel is not told" {
			c.send(wire.AppendCancel(nil, id))
		}
	})
	c.send(wire.AppendRequest(nil, wire.Request{ID: id, Cluster: []byte(cmd.Cluster), Budget: c.s.budget(cmd), Headers: headers, Payload: cmd.Payload}))
}

// outcome names a code for the suite. relay.md 7.2.
func (c *fakeClient) outcome(code wire.Code) string {
	switch {
	case code == wire.CodeClosing && c.s.mistake == "closing is lost":
		return "lost"
	case code > wire.CodeInvalid && c.s.mistake == "a code that is not listed is other":
		return "other"
	}
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
		if c.s.mistake == "a token has 32 bits" {
			token = uint64(uint32(token))
		}
		switch {
		case err != nil:
		case len(c.given) > 0 && c.s.mistake == "a ping waits for the handlers":
			c.pongs = append(c.pongs, token)
		default:
			c.send(wire.AppendPong(nil, token))
		}
		return err
	case wire.OpPong:
		_, err := wire.ParsePong(content)
		return err
	case wire.OpBye:
		code, _, err := wire.ParseBye(content)
		if err != nil {
			return err
		}
		if code > wire.CodeUnresponsive && c.s.mistake == "a bye that is not listed is for good" {
			c.giveUp("a bye")
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
		if content[0] != 0x94 && c.s.mistake == "a further field is refused" {
			return &wire.Error{Code: wire.CodeMalformed}
		}
	}
	call := c.calls[r.ID]
	if err == nil && call == nil && c.s.mistake == "a late reply ends the connection" {
		return unexpected("nobody asked")
	}
	if err != nil || call == nil {
		return err
	}
	delete(c.calls, r.ID)
	if call.done != nil {
		call.done(r.Code)
	}
	headers := c.headers(r.Headers)
	if c.s.mistake == "headers of a reply are left out" {
		headers = nil
	}
	text := string(r.Text)
	switch {
	case c.s.mistake == "a failure is told in words of its own":
		text = "remote: " + text
	case c.s.mistake == "a failure without a text has one" && text == "":
		text = "unknown"
	case c.s.mistake == "a text is cut at 1,000 bytes":
		text = text[:min(1000, len(text))]
	}
	switch {
	case r.Code == wire.CodeOK && op == wire.OpReply && len(r.Payload) == 0 && c.s.mistake == "an empty reply is nil":
		c.s.ok(call.id, line{"payload": nil, "headers": headers})
	case r.Code == wire.CodeOK && op == wire.OpDone:
		c.s.ok(call.id, nil)
	case r.Code == wire.CodeOK || c.s.mistake == "a payload makes a success" && len(r.Payload) > 0:
		c.s.ok(call.id, line{"payload": r.Payload, "headers": headers})
	case c.s.mistake == "overloaded is no-service" && r.Code == wire.CodeOverloaded:
		c.s.fail(call.id, "no-service", "")
	default:
		c.s.fail(call.id, c.outcome(r.Code), text)
	}
	return nil
}

// headers are those that count: relay.md 5.3.
func (c *fakeClient) headers(h wire.Headers) map[string]string {
	m := map[string]string{}
	for name, value := range h.All() {
		if _, twice := m[name]; !twice || c.s.mistake != "of a header that comes twice the first counts" {
			m[name] = value
		}
	}
	return m
}

// message handles what the node gives.
func (c *fakeClient) message(op wire.Op, content []byte) error {
	switch op {
	case wire.OpRequest:
		return c.requested(content)
	case wire.OpCancel:
		return c.cancelled(content)
	case wire.OpBroadcast:
		b, err := wire.ParseBroadcast(content)
		if err != nil {
			return err
		}
		if !c.service {
			return unexpected("a broadcast to a client")
		}
		if err := c.take(wire.KindBroadcast); err != nil {
			return err
		}
		c.grant(wire.KindBroadcast, 1)
		c.notice("broadcast", b.Headers, b.Payload, nil)
	case wire.OpEvent:
		e, err := wire.ParseEvent(content)
		if err != nil {
			return err
		}
		if err := c.take(wire.KindEvent); err != nil {
			return err
		}
		c.grant(wire.KindEvent, 1)
		switch known := c.topics[string(e.Topic)]; {
		case !known && c.s.mistake == "an event of another topic ends the connection":
			return unexpected("an event")
		case known || c.s.mistake == "an event of any topic is handled":
			c.notice("event", e.Headers, e.Payload, line{"topic": string(e.Topic)})
		}
	}
	return nil
}

// notice tells what the node gave.
func (c *fakeClient) notice(kind string, h wire.Headers, payload []byte, more line) {
	n := line{"notice": kind, "conn": c.name, "headers": c.headers(h), "payload": payload}
	if len(payload) == 0 && c.s.mistake == "what is empty is left out" {
		return
	}
	for key, v := range more {
		n[key] = v
	}
	_ = c.s.out.Encode(n)
}

// requested handles a request to the service.
func (c *fakeClient) requested(content []byte) error {
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	if !c.service {
		return unexpected("a request to a client")
	}
	if err := c.take(wire.KindRequest); err != nil {
		return err
	}
	if c.draining != 0 && c.s.mistake == "a request behind the drain is left out" {
		return nil
	}
	c.s.last++
	name := fmt.Sprint("r", c.s.last)
	g := &fakeGiven{c: c, nc: c.nc, id: r.ID}
	if c.s.mistake == "ids have 32 bits" {
		g.id = uint64(uint32(r.ID))
	}
	c.s.requests[name], c.given[r.ID] = g, g
	more := line{"request": name}
	if r.Budget != wire.NoDeadline {
		more["budget_ms"] = r.Budget
		g.timer = time.AfterFunc(time.Duration(r.Budget)*time.Millisecond, func() {})
	}
	c.notice("request", r.Headers, r.Payload, more)
	return nil
}

// cancelled handles the cancel of one.
func (c *fakeClient) cancelled(content []byte) error {
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
	if g.id == 0 && s.mistake == "an id of 0 is none" {
		return
	}
	delete(c.given, g.id)
	for _, token := range c.pongs {
		c.send(wire.AppendPong(nil, token))
	}
	c.pongs = nil
	r := wire.Reply{ID: g.id, Headers: wire.EncodeHeaders(cmd.Headers), Payload: cmd.Payload}
	switch {
	case cmd.Error != nil:
		r.Code, r.Text = wire.CodeFailed, wire.Text([]byte(*cmd.Error))
	case len(cmd.Payload) > int(c.limits.Payload):
		r = wire.Reply{ID: g.id, Code: wire.CodeFailed, Text: []byte("too large")}
	}
	switch {
	case s.mistake == "a failure has a code of the node" && r.Code == wire.CodeFailed:
		r.Code = wire.CodeInvalid
	case s.mistake == "a handler's headers are left out":
		r.Headers = nil
	}
	frame := wire.AppendReply(nil, r)
	if i := bytes.LastIndex(frame, []byte("✓")); i > 16_000 && s.mistake == "a text is cut within a character" {
		frame[i+2] = '.'
	}
	c.send(frame)
	switch {
	case s.mistake == "credit is not granted again":
	case s.mistake == "a failure grants all credit again" && r.Code != wire.CodeOK:
		c.grant(wire.KindRequest, wire.MaxCredit)
	default:
		c.grant(wire.KindRequest, 1)
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
