package conformance

import (
	"github.com/project-iris/iris/spec/wire"
)

// fakeWindow is how many bytes a fakeTunnel lets the other side send ahead.
const fakeWindow = 1 << 18

// A fakeTunnel is a tunnel of a fakeClient.
type fakeTunnel struct {
	c        *fakeClient
	id       uint64
	opened   int // id of the command that waits
	open     bool
	allowed  uint32 // bytes that may be sent
	granted  uint32 // bytes that the other side may send
	queue    []fakeCommand
	part     []byte
	messages [][]byte
	recvs    []int
	theirEnd bool
	finished bool
	over     bool
	why      string // it broke off
	text     string
	closes   []int
}

func (c *fakeClient) openTunnel(cmd fakeCommand, headers wire.Headers) {
	c.lastID++
	if c.s.mistake == "an id of a tunnel is used again" {
		for c.lastID > 1 && c.tunnels[c.lastID-1] == nil && c.calls[c.lastID-1] == nil {
			c.lastID--
		}
	}
	t := &fakeTunnel{c: c, id: c.lastID, opened: cmd.ID, granted: fakeWindow}
	c.tunnels[t.id], c.s.tunnels[cmd.Tunnel] = t, t
	c.s.bound(cmd, func(string) {
		if c.s.mistake != "an open is given up in silence" {
			t.abort(wire.CodeCancelled, "")
		}
	})
	o := wire.Open{ID: t.id, Cluster: []byte(cmd.Cluster), Budget: c.s.budget(cmd), Window: fakeWindow, Headers: headers}
	c.send(wire.AppendOpen(nil, o))
}

// hand gives tunnels to those who accept.
func (c *fakeClient) hand() {
	for len(c.taken) > 0 && len(c.accepts) > 0 {
		c.s.tunnels[c.accepts[0].Tunnel] = c.taken[0]
		c.s.ok(c.accepts[0].ID, nil)
		c.taken, c.accepts = c.taken[1:], c.accepts[1:]
	}
}

// tunnelFrame handles relay.md 10 from the client's side.
func (c *fakeClient) tunnelFrame(op wire.Op, content []byte) error {
	switch op {
	case wire.OpOpen:
		return c.offered(content)
	case wire.OpOpened:
		o, err := wire.ParseOpened(content)
		t := c.tunnels[o.ID]
		if err != nil || t == nil {
			return err
		}
		if t.open || o.Window > wire.MaxCredit {
			return unexpected("opened")
		}
		t.open, t.allowed = true, o.Window
		headers := map[string]string{}
		for name, value := range o.Headers.All() {
			headers[name] = value
		}
		c.s.ok(t.opened, line{"headers": headers})
	case wire.OpData:
		d, err := wire.ParseData(content)
		t := c.tunnels[d.ID]
		switch {
		case err != nil:
			return err
		case t != nil:
			return t.data(d)
		case c.s.mistake == "data of a tunnel that has ended ends the connection":
			return unexpected("no such tunnel")
		}
		return nil
	case wire.OpAllow:
		id, n, err := wire.ParseAllow(content)
		if t := c.tunnels[id]; err == nil && t != nil {
			if c.s.mistake == "an allow replaces what is left" {
				t.allowed = 0
			}
			t.allowed, err = wire.AddAllowance(t.allowed, n)
			t.pump()
		}
		return err
	case wire.OpFinish:
		return c.ended(content)
	case wire.OpAbort:
		id, code, text, err := wire.ParseAbort(content)
		t := c.tunnels[id]
		if err != nil || t == nil {
			return err
		}
		name := c.outcome(code)
		if code == wire.CodeOK {
			name = "closed"
		}
		t.end(name, text)
	}
	return nil
}

// ended handles the finish of the other side.
func (c *fakeClient) ended(content []byte) error {
	id, err := wire.ParseFinish(content)
	t := c.tunnels[id]
	if err != nil || t == nil {
		return err
	}
	if t.theirEnd && c.s.mistake == "a second finish is passed over" {
		return nil
	}
	if t.theirEnd {
		return unexpected("a second finish")
	}
	t.theirEnd = true
	if len(t.part) > 0 && c.s.mistake == "half a message is the last one" {
		t.messages, t.part = append(t.messages, t.part), nil
	}
	if len(t.part) > 0 {
		t.abort(wire.CodeFailed, "a message was broken")
		t.end("other", "a message was broken")
	}
	t.deliver()
	t.settle()
	return nil
}

// offered accepts a tunnel to the service, if there is room.
func (c *fakeClient) offered(content []byte) error {
	o, err := wire.ParseOpen(content)
	if err != nil {
		return err
	}
	if !c.service || o.Window > wire.MaxCredit {
		return unexpected("open")
	}
	if len(c.tunnels) >= c.maxTunnel && c.s.mistake != "tunnels have no limit" {
		c.send(wire.AppendAbort(nil, o.ID, wire.CodeOverloaded, ""))
		return nil
	}
	t := &fakeTunnel{c: c, id: o.ID, open: true, allowed: o.Window, granted: fakeWindow}
	c.tunnels[t.id] = t
	c.send(wire.AppendOpened(nil, wire.Opened{ID: o.ID, Window: fakeWindow}))
	c.taken = append(c.taken, t)
	c.hand()
	return nil
}

func (t *fakeTunnel) command(cmd fakeCommand) {
	s := t.c.s
	switch {
	case cmd.Op == "tunnel-recv":
		t.recvs = append(t.recvs, cmd.ID)
		s.bound(cmd, nil)
		if t.deliver(); len(t.recvs) > 0 {
			t.grant()
		}
	case cmd.Op == "tunnel-send" && t.why != "":
		s.fail(cmd.ID, t.why, t.text)
	case cmd.Op == "tunnel-send" && (t.over || t.finished):
		s.fail(cmd.ID, "closed", "")
	case cmd.Op == "tunnel-close" && cmd.How == "abort":
		if s.mistake == "the reason of an abort is left out" {
			cmd.Reason = ""
		}
		code := wire.CodeFailed
		if cmd.Reason == "" {
			code = wire.CodeOK
		}
		if t.abort(code, cmd.Reason); s.mistake == "an abort is told twice" {
			t.c.send(wire.AppendAbort(nil, t.id, code, cmd.Reason))
		}
		t.end("closed", "")
		s.ok(cmd.ID, nil)
	case cmd.Op == "tunnel-send" && len(cmd.Payload) == 0 && s.mistake == "an empty message is not sent":
		s.ok(cmd.ID, nil)
	case cmd.Op == "tunnel-close" && s.mistake == "a finish does not wait for data":
		t.queue = append([]fakeCommand{cmd}, t.queue...)
		t.pump()
	default:
		t.queue = append(t.queue, cmd)
		t.pump()
	}
}

// pump sends what is queued, as far as it is allowed.
func (t *fakeTunnel) pump() {
	for len(t.queue) > 0 && !t.over {
		cmd := &t.queue[0]
		if cmd.Op == "tunnel-close" {
			t.c.send(wire.AppendFinish(nil, t.id))
			t.finished = true
			if t.c.s.mistake == "a finish ends both directions" {
				t.theirEnd = true
			}
			if cmd.How == "close" && !t.theirEnd {
				t.closes = append(t.closes, cmd.ID)
			} else {
				t.c.s.ok(cmd.ID, nil)
			}
			t.queue = t.queue[1:]
			t.settle()
			continue
		}
		overhead := uint32(wire.DataOverhead)
		if t.c.s.mistake == "data costs its payload alone" {
			overhead = 0
		}
		if t.allowed < overhead || t.allowed == overhead && len(cmd.Payload) > 0 {
			return
		}
		n := min(len(cmd.Payload), int(t.allowed-overhead), int(t.c.limits.Chunk))
		if t.c.s.mistake == "chunks have no limit" {
			n = min(len(cmd.Payload), int(t.allowed-overhead))
		}
		d := wire.Data{ID: t.id, Last: n == len(cmd.Payload), Payload: cmd.Payload[:n]}
		t.c.send(wire.AppendData(nil, d))
		t.allowed -= uint32(n) + overhead
		if cmd.Payload = cmd.Payload[n:]; d.Last {
			t.c.s.ok(cmd.ID, nil)
			t.queue = t.queue[1:]
		}
	}
}

func (t *fakeTunnel) data(d wire.Data) error {
	if t.theirEnd || uint64(d.Cost()) > uint64(t.granted) && t.c.s.mistake != "a window is not looked at" {
		return unexpected("data")
	}
	t.granted -= min(t.granted, uint32(d.Cost()))
	t.part = append(t.part, d.Payload...)
	if d.Last || t.c.s.mistake == "a chunk is a message" {
		t.messages = append(t.messages, append([]byte{}, t.part...))
		t.part = nil
	}
	t.deliver()
	if len(t.messages) == 0 && len(t.recvs) > 0 { // somebody waits
		t.grant()
	}
	return nil
}

// grant allows again what was taken.
func (t *fakeTunnel) grant() {
	if n := fakeWindow - t.granted; n > fakeWindow/2 && !t.theirEnd && !t.over && t.c.s.mistake != "nothing is allowed again" {
		t.granted += n
		t.c.send(wire.AppendAllow(nil, t.id, n))
	}
}

// deliver answers those who receive.
func (t *fakeTunnel) deliver() {
	for len(t.recvs) > 0 {
		if _, waits := t.c.s.open[t.recvs[0]]; !waits {
			t.recvs = t.recvs[1:]
			continue
		}
		switch {
		case len(t.messages) > 0:
			t.c.s.ok(t.recvs[0], line{"payload": t.messages[0]})
			t.messages = t.messages[1:]
			t.grant()
		case t.why != "":
			t.c.s.fail(t.recvs[0], t.why, t.text)
		case t.theirEnd:
			t.c.s.fail(t.recvs[0], "end", "")
		default:
			return
		}
		t.recvs = t.recvs[1:]
	}
}

// settle ends a tunnel that both sides have finished.
func (t *fakeTunnel) settle() {
	if t.finished && t.theirEnd && !t.over {
		t.over = true
		delete(t.c.tunnels, t.id)
		for _, id := range t.closes {
			t.c.s.ok(id, nil)
		}
		t.c.settle()
	}
}

func (t *fakeTunnel) abort(code wire.Code, text string) {
	if !t.over {
		t.c.send(wire.AppendAbort(nil, t.id, code, text))
		t.over = true
		delete(t.c.tunnels, t.id)
	}
}

// end breaks the tunnel off.
func (t *fakeTunnel) end(why, text string) {
	t.over = true
	if t.why == "" {
		t.why, t.text = why, text
	}
	if t.c.s.mistake == "a broken tunnel does not wake who sends" {
		t.queue = nil
	}
	delete(t.c.tunnels, t.id)
	t.c.s.fail(t.opened, why, text)
	for _, cmd := range t.queue {
		t.c.s.fail(cmd.ID, why, text)
	}
	for _, id := range t.closes {
		t.c.s.fail(id, why, text)
	}
	t.deliver()
}
