package conformance

import (
	"slices"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// A side is one side of a tunnel.
type side struct {
	peer     *peer
	id       uint64
	other    *side
	allowed  uint32 // bytes that it may send
	open     bool
	finished bool
	timer    *time.Timer
	asks     wire.Open      // of the one that asks
	offered  map[*peer]bool // of the one that asks: to whom
}

// drop forgets both sides.
func (e *side) drop() {
	if e.timer != nil {
		e.timer.Stop()
	}
	delete(e.peer.tunnels, e.id)
	delete(e.other.peer.tunnels, e.other.id)
}

// abort ends the tunnel for both sides.
func (e *side) abort(code wire.Code) {
	e.drop()
	for _, s := range []*side{e, e.other} {
		s.peer.send(wire.AppendAbort(nil, s.id, code, ""))
		s.peer.settle()
	}
}

// tunnel handles relay.md 10. The caller holds mu.
func (f *fake) tunnel(p *peer, op wire.Op, content []byte) error {
	switch op {
	case wire.OpOpen:
		o, err := wire.ParseOpen(content)
		if err != nil {
			return err
		}
		return f.openTunnel(p, o)
	case wire.OpOpened:
		return f.openedTunnel(p, content)
	case wire.OpData:
		return f.data(p, content)
	case wire.OpAllow:
		id, n, err := wire.ParseAllow(content)
		e := p.tunnels[id]
		if err != nil || e == nil || e.other.finished {
			return err
		}
		if e.other.allowed, err = wire.AddAllowance(e.other.allowed, n); err == nil && f.mistake != "an allow is not passed on" {
			e.other.peer.send(wire.AppendAllow(nil, e.other.id, n))
		}
		return err
	case wire.OpFinish:
		return f.finish(p, content)
	}
	id, code, text, err := wire.ParseAbort(content)
	e := p.tunnels[id]
	if err != nil || e == nil {
		return err
	}
	if f.mistake == "the reason is left out" {
		text = ""
	}
	if code == wire.CodeOverloaded && !e.open && e.offered == nil && f.mistake != "overloaded is passed on at once" {
		delete(p.tunnels, id)
		if f.offer(e.other) {
			p.settle()
			return nil
		}
	}
	if f.mistake == "an abort is answered" {
		p.send(wire.AppendAbort(nil, id, code, ""))
	}
	e.drop()
	e.other.peer.send(wire.AppendAbort(nil, e.other.id, code, text))
	e.other.peer.settle()
	p.settle()
	return nil
}

func (f *fake) openTunnel(p *peer, o wire.Open) error {
	if p.tunnels[o.ID] != nil {
		return unexpected("an id in use")
	}
	refuse := func(code wire.Code) { p.send(wire.AppendAbort(nil, o.ID, code, "")) }
	if err := wire.DefaultLimits().CheckOpen(o); err != nil {
		if o.Window > wire.MaxCredit && f.mistake == "a window has no bound" {
			return nil
		}
		if err.(*wire.Error).Code != wire.CodeInvalid {
			return err
		}
		refuse(wire.CodeInvalid)
		return nil
	}
	members := f.members[string(o.Cluster)]
	switch {
	case len(members) == 0:
		refuse(wire.CodeNoService)
		return nil
	case o.Budget == 0:
		refuse(wire.CodeTimeout)
		return nil
	}
	o.Cluster, o.Headers = slices.Clone(o.Cluster), slices.Clone(o.Headers)
	asking := &side{peer: p, id: o.ID, asks: o, offered: map[*peer]bool{}}
	p.tunnels[asking.id] = asking
	if o.Budget != wire.NoDeadline && f.mistake != "an open never times out" {
		asking.timer = time.AfterFunc(time.Duration(o.Budget)*time.Millisecond, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if p.tunnels[o.ID] == asking && !asking.open {
				if f.mistake == "a service is not told that an open timed out" {
					asking.drop()
					p.send(wire.AppendAbort(nil, o.ID, wire.CodeTimeout, ""))
					return
				}
				asking.abort(wire.CodeTimeout)
			}
		})
	}
	f.offer(asking)
	return nil
}

// offer offers a tunnel to a member that it was not offered to, if there is one.
func (f *fake) offer(asking *side) bool {
	for _, m := range f.members[string(asking.asks.Cluster)] {
		if asking.offered[m] {
			continue
		}
		f.lastID++
		open := asking.asks
		open.ID = f.lastID
		if f.mistake == "the node's ids are like the client's" {
			open.ID &^= wire.NodeTunnel
		}
		to := &side{peer: m, id: open.ID, allowed: open.Window, other: asking}
		asking.other, asking.offered[m], m.tunnels[to.id] = to, true, to
		m.send(wire.AppendOpen(nil, open))
		return true
	}
	return false
}

func (f *fake) openedTunnel(p *peer, content []byte) error {
	o, err := wire.ParseOpened(content)
	e := p.tunnels[o.ID]
	if err != nil || e == nil {
		return err
	}
	if e.open && f.mistake == "a second opened is passed over" {
		return nil
	}
	if e.open || o.ID&wire.NodeTunnel == 0 && f.mistake != "whoever asks may accept" && f.mistake != "the node's ids are like the client's" {
		return unexpected("opened")
	}
	if err := wire.DefaultLimits().CheckOpened(o); err != nil {
		return err
	}
	e.open, e.other.open, e.other.allowed = true, true, o.Window
	o.ID = e.other.id
	e.other.peer.send(wire.AppendOpened(nil, o))
	return nil
}

func (f *fake) data(p *peer, content []byte) error {
	d, err := wire.ParseData(content)
	e := p.tunnels[d.ID]
	if err == nil && e == nil && f.mistake == "data of a tunnel that has ended ends the connection" {
		return unexpected("no such tunnel")
	}
	if err != nil || e == nil {
		return err
	}
	if f.mistake == "data costs its payload alone" {
		d.Payload = append([]byte{}, d.Payload...)
		e.allowed += wire.DataOverhead
	}
	if e.finished || uint64(d.Cost()) > uint64(e.allowed) {
		return unexpected("data")
	}
	tooLarge := wire.DefaultLimits().CheckChunk(d)
	if tooLarge != nil && f.mistake == "a chunk that is too large ends the connection" {
		return tooLarge
	}
	if tooLarge != nil || len(d.Payload) >= 65_536 && f.mistake == "the greatest chunk is too large" {
		e.abort(wire.CodeInvalid)
		return nil
	}
	e.allowed -= uint32(d.Cost())
	d.ID = e.other.id
	if f.mistake == "chunks are joined" {
		d.Last = true
	}
	frame := wire.AppendData(nil, d)
	switch {
	case f.mistake == "an empty chunk is left out" && len(d.Payload) == 0:
		return nil
	case f.mistake == "a finish overtakes data" && d.Last && string(d.Payload) == "b":
		f.held = frame
		return nil
	}
	e.other.peer.send(frame)
	return nil
}

func (f *fake) finish(p *peer, content []byte) error {
	id, err := wire.ParseFinish(content)
	e := p.tunnels[id]
	if err != nil || e == nil {
		return err
	}
	if e.finished && f.mistake == "a second finish is passed over" {
		return nil
	}
	if e.finished {
		return unexpected("a second finish")
	}
	e.finished = true
	if e.other.finished || f.mistake == "one finish ends both directions" {
		e.drop()
	}
	e.other.peer.send(wire.AppendFinish(nil, e.other.id))
	if f.held != nil {
		e.other.peer.send(f.held)
		f.held = nil
	}
	e.other.peer.settle()
	p.settle()
	return nil
}
