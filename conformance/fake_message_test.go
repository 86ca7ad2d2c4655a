package conformance

import (
	"slices"
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
		c := p.given[r.ID]
		if c == nil && f.mistake == "a late reply ends the connection" {
			return unexpected("nobody asked")
		}
		if c != nil {
			if r.Code != wire.CodeOK && r.Code != wire.CodeFailed && f.mistake != "any code is passed on" {
				r.Code = wire.CodeFailed
			}
			if err := wire.DefaultLimits().CheckReply(r); err != nil && f.mistake != "replies have no limit" {
				r = wire.Reply{Code: wire.CodeFailed, Text: []byte(err.Error())}
			}
			switch f.mistake {
			case "the text of a failure is left out":
				r.Text = nil
			case "headers of a reply are left out":
				r.Headers = nil
			}
			c.forget()
			r.ID = c.fromID
			c.from.send(wire.AppendReply(nil, r))
		}
		return nil
	case wire.OpCancel:
		id, err := wire.ParseCancel(content)
		c := p.asked[id]
		if err != nil || c == nil {
			return err
		}
		if f.mistake != "a cancel is not passed on" {
			c.to.send(wire.AppendCancel(nil, c.toID))
		}
		if f.mistake != "a cancel waits for the service" {
			c.answer(wire.CodeCancelled)
		}
		return err
	}
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	if p.asked[r.ID] != nil {
		if f.mistake == "an id in use is invalid" {
			p.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Code: wire.CodeInvalid}))
			return nil
		}
		return unexpected("an id in use")
	}
	if code := f.ask(p, r); code != wire.CodeOK {
		p.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Code: code}))
	}
	return nil
}

// ask gives a request to a service, or tells why not.
func (f *fake) ask(p *peer, r wire.Request) wire.Code {
	limits := wire.DefaultLimits()
	switch {
	case limits.CheckRequest(r) != nil,
		len(r.Cluster) >= 255 && f.mistake == "the longest name is not asked",
		len(r.Headers) >= 16_384 && f.mistake == "headers of the limit are too large",
		r.Headers.Len() >= 64 && f.mistake == "64 headers are too many":
		return wire.CodeInvalid
	case limits.CheckUnanswered(len(p.asked)) != nil && f.mistake != "any number of requests is taken":
		return wire.CodeOverloaded
	}
	if string(r.Cluster) == "$node" && string(r.Payload) == "status" {
		p.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Payload: []byte("{}")}))
		return wire.CodeOK
	}
	members := f.members[string(r.Cluster)]
	if len(members) == 0 {
		return wire.CodeNoService
	}
	if r.Budget == 0 && f.mistake == "a budget of nothing is without end" {
		r.Budget = wire.NoDeadline
	}
	if r.Budget == 0 {
		return wire.CodeTimeout
	}
	for _, m := range members {
		if m.credit[wire.KindRequest] == 0 && f.mistake == "one member is asked and no other" {
			break
		}
		if m.credit[wire.KindRequest] == 0 {
			continue
		}
		if f.mistake != "requests use up no credit" {
			m.credit[wire.KindRequest]--
		}
		f.lastID++
		c := &call{from: p, to: m, fromID: r.ID, toID: f.lastID}
		if f.mistake == "the client's id is passed on" {
			c.toID = r.ID
		}
		p.asked[c.fromID], m.given[c.toID] = c, c
		if r.Budget != wire.NoDeadline {
			c.timer = time.AfterFunc(time.Duration(r.Budget)*time.Millisecond, func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				if p.asked[c.fromID] == c {
					if f.mistake == "a timeout is not told to the service" {
						c.answer(wire.CodeTimeout)
						return
					}
					c.to.send(wire.AppendCancel(nil, c.toID))
					c.answer(wire.CodeTimeout)
				}
			})
		}
		r.ID = c.toID
		if r.Budget != wire.NoDeadline && f.mistake == "a budget is passed on in seconds" {
			r.Budget /= 1000
		}
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
		id, code = m.ID, f.broadcast(p, m)
	case wire.OpPublish:
		m, err := wire.ParsePublish(content)
		if err != nil {
			return err
		}
		if m.ID == 0 && f.mistake == "a bye overtakes what is in front of it" {
			f.putOff(p, m)
			return nil
		}
		id, code = m.ID, f.publish(p, m)
	default:
		return f.subscribe(p, op, content)
	}
	if f.mistake == "the id of a done has 32 bits" {
		id = uint64(uint32(id))
	}
	if id != 0 || f.mistake == "id 0 is answered" {
		p.send(wire.AppendDone(nil, id, code, ""))
	}
	return nil
}

// putOff publishes before the next frame that is no bye, or soon.
func (f *fake) putOff(p *peer, m wire.Publish) {
	m.Topic, m.Headers, m.Payload = slices.Clone(m.Topic), slices.Clone(m.Headers), slices.Clone(m.Payload)
	p.late = func() {
		p.late = nil
		f.publish(p, m)
	}
	time.AfterFunc(100*time.Millisecond, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.late != nil && !p.closed {
			p.late()
		}
	})
}

// subscribe handles a subscribe or an unsubscribe.
func (f *fake) subscribe(p *peer, op wire.Op, content []byte) error {
	parse := wire.ParseSubscribe
	if op == wire.OpUnsubscribe {
		parse = wire.ParseUnsubscribe
	}
	number, topic, err := parse(content)
	if err != nil {
		return err
	}
	code := wire.CodeOK
	wrong := wire.DefaultLimits().CheckTopic(topic) != nil || len(topic) >= 255 && f.mistake == "the longest topic is not subscribed"
	switch {
	case p.topics[string(topic)] == (op == wire.OpSubscribe) || wrong:
		code = wire.CodeInvalid
		switch {
		case f.mistake == "a second subscribe ends the connection" && op == wire.OpSubscribe,
			f.mistake == "an unsubscribe of what is not there ends the connection" && op == wire.OpUnsubscribe:
			return unexpected("subscribed or not")
		case f.mistake == "a second subscribe is ok" && !wrong && op == wire.OpSubscribe:
			code = wire.CodeOK
		}
	case op == wire.OpUnsubscribe && f.mistake == "an unsubscribe ends all subscriptions":
		clear(p.topics)
	case op == wire.OpSubscribe || f.mistake != "an unsubscribe is forgotten":
		p.topics[string(topic)] = op == wire.OpSubscribe
	}
	p.send(wire.AppendDone(nil, number, code, ""))
	if op == wire.OpUnsubscribe && f.mistake == "an unsubscribe is done twice" {
		p.send(wire.AppendDone(nil, number, code, ""))
	}
	return nil
}

func (f *fake) broadcast(from *peer, m wire.Broadcast) wire.Code {
	if wire.DefaultLimits().CheckBroadcast(m) != nil {
		return wire.CodeInvalid
	}
	members := f.members[string(m.Cluster)]
	if len(members) == 0 {
		if f.mistake == "a broadcast to nobody is ok" {
			return wire.CodeOK
		}
		return wire.CodeNoService
	}
	if f.mistake != "the sender's id is passed on" {
		m.ID = 0
	}
	for _, to := range members {
		if f.mistake == "own broadcasts are left out" && to == from || f.mistake == "an empty broadcast is left out" && len(m.Payload) == 0 {
			continue
		}
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
	if members := f.members[string(m.Topic)]; len(members) > 0 && f.mistake == "a topic is a cluster" {
		return f.broadcast(p, wire.Broadcast{Cluster: m.Topic, Headers: m.Headers, Payload: m.Payload})
	}
	found := wire.CodeOK
	if f.mistake == "a publish to nobody is no-service" {
		found = wire.CodeNoService
	}
	for to := range f.peers {
		if to.topics[string(m.Topic)] {
			found = wire.CodeOK
		}
		if f.mistake == "an empty event is left out" && len(m.Payload) == 0 {
			continue
		}
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
	return found
}

// use uses up a credit, if there is one.
func (f *fake) use(p *peer, kind int) bool {
	if f.mistake == "kinds of credit are one" && p.credit[kind] == 0 {
		for other := range p.credit {
			if p.credit[other] > 0 {
				kind = other
			}
		}
	}
	if p.credit[kind] == 0 {
		return f.mistake == "credit is not looked at"
	}
	if kind != wire.KindEvent || f.mistake != "events use up no credit" {
		p.credit[kind]--
	}
	return true
}
