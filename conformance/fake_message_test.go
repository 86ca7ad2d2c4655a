package conformance

import (
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// request handles relay.md 5. The caller holds mu.
func (f *fake) request(p *peer, op wire.Op, content []byte) error {
	switch op {
	case wire.OpReply:
		r, err := wire.ParseReply(content)
		if err != nil {
			return err
		}
		if c := p.given[r.ID]; c != nil {
			if r.Code != wire.CodeOK && r.Code != wire.CodeFailed && f.mistake != "any code is passed on" {
				r.Code = wire.CodeFailed
			}
			c.forget()
			r.ID = c.fromID
			c.from.send(wire.AppendReply(nil, r))
		}
		return nil
	case wire.OpCancel:
		id, err := wire.ParseCancel(content)
		if c := p.asked[id]; err == nil && c != nil {
			c.to.send(wire.AppendCancel(nil, c.toID))
			c.answer(wire.CodeCancelled)
		}
		return err
	}
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	if p.asked[r.ID] != nil {
		return unexpected("an id in use")
	}
	if code := f.ask(p, r); code != wire.CodeOK {
		p.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Code: code}))
	}
	return nil
}

// ask gives a request to a service, or tells why not.
func (f *fake) ask(p *peer, r wire.Request) wire.Code {
	if wire.DefaultLimits().CheckRequest(r) != nil {
		return wire.CodeInvalid
	}
	if string(r.Cluster) == "$node" && string(r.Payload) == "status" {
		p.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Payload: []byte("{}")}))
		return wire.CodeOK
	}
	members := f.members[string(r.Cluster)]
	if len(members) == 0 {
		return wire.CodeNoService
	}
	if r.Budget == 0 {
		return wire.CodeTimeout
	}
	for _, m := range members {
		if m.credit[wire.KindRequest] == 0 {
			continue
		}
		m.credit[wire.KindRequest]--
		f.lastID++
		c := &call{from: p, to: m, fromID: r.ID, toID: f.lastID}
		p.asked[c.fromID], m.given[c.toID] = c, c
		if r.Budget != wire.NoDeadline {
			c.timer = time.AfterFunc(time.Duration(r.Budget)*time.Millisecond, func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				if p.asked[c.fromID] == c {
					c.to.send(wire.AppendCancel(nil, c.toID))
					c.answer(wire.CodeTimeout)
				}
			})
		}
		r.ID = c.toID
		m.send(wire.AppendRequest(nil, r))
		return wire.CodeOK
	}
	return wire.CodeOverloaded
}

func (c *call) answer(code wire.Code) {
	c.forget()
	c.from.send(wire.AppendReply(nil, wire.Reply{ID: c.fromID, Code: code}))
}

func (c *call) forget() {
	if c.timer != nil {
		c.timer.Stop()
	}
	delete(c.from.asked, c.fromID)
	delete(c.to.given, c.toID)
	if !c.to.closed {
		defer c.to.settle()
	}
}

// message handles relay.md 8 and 9. The caller holds mu.
func (f *fake) message(p *peer, op wire.Op, content []byte) error {
	var id uint64
	var code wire.Code
	switch op {
	case wire.OpBroadcast:
		m, err := wire.ParseBroadcast(content)
		if err != nil {
			return err
		}
		id, code = m.ID, f.broadcast(m)
	case wire.OpPublish:
		m, err := wire.ParsePublish(content)
		if err != nil {
			return err
		}
		id, code = m.ID, f.publish(p, m)
	default:
		parse := wire.ParseSubscribe
		if op == wire.OpUnsubscribe {
			parse = wire.ParseUnsubscribe
		}
		number, topic, err := parse(content)
		if err != nil {
			return err
		}
		code = wire.CodeOK
		if p.topics[string(topic)] == (op == wire.OpSubscribe) || wire.DefaultLimits().CheckTopic(topic) != nil {
			if code = wire.CodeInvalid; f.mistake == "a second subscribe ends the connection" {
				return unexpected("subscribed")
			}
		} else if op == wire.OpSubscribe || f.mistake != "an unsubscribe is forgotten" {
			p.topics[string(topic)] = op == wire.OpSubscribe
		}
		p.send(wire.AppendDone(nil, number, code, ""))
		return nil
	}
	if id != 0 || f.mistake == "id 0 is answered" {
		p.send(wire.AppendDone(nil, id, code, ""))
	}
	return nil
}

func (f *fake) broadcast(m wire.Broadcast) wire.Code {
	if wire.DefaultLimits().CheckBroadcast(m) != nil {
		return wire.CodeInvalid
	}
	members := f.members[string(m.Cluster)]
	if len(members) == 0 {
		return wire.CodeNoService
	}
	if f.mistake != "the sender's id is passed on" {
		m.ID = 0
	}
	for _, to := range members {
		if f.use(to, wire.KindBroadcast) {
			to.send(wire.AppendBroadcast(nil, m))
		}
		if f.mistake == "one member is enough" {
			break
		}
	}
	return wire.CodeOK
}

func (f *fake) publish(p *peer, m wire.Publish) wire.Code {
	if wire.DefaultLimits().CheckPublish(m) != nil {
		return wire.CodeInvalid
	}
	for to := range f.peers {
		if !to.topics[string(m.Topic)] || f.mistake == "own events are left out" && to == p || !f.use(to, wire.KindEvent) {
			continue
		}
		event := wire.AppendEvent(nil, wire.Event{Topic: m.Topic, Headers: m.Headers, Payload: m.Payload})
		if f.mistake == "two events change places" && string(m.Payload) == "41" {
			f.held = event
			continue
		}
		if f.mistake == "events come twice" {
			to.send(event)
		}
		to.send(event)
		if f.held != nil {
			to.send(f.held)
			f.held = nil
		}
	}
	return wire.CodeOK
}

// use uses up a credit, if there is one.
func (f *fake) use(p *peer, kind int) bool {
	if p.credit[kind] == 0 {
		return f.mistake == "credit is not looked at"
	}
	p.credit[kind]--
	return true
}
