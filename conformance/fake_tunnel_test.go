package conformance

import (
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
		if e.other.allowed, err = wire.AddAllowance(e.other.allowed, n); err == nil {
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
	f.lastID++
	offer := o
	offer.ID = f.lastID
	if f.mistake == "the node's ids are like the client's" {
		offer.ID &^= wire.NodeTunnel
	}
	asking, to := &side{peer: p, id: o.ID}, &side{peer: members[0], id: offer.ID, allowed: o.Window}
	asking.other, to.other = to, asking
	p.tunnels[asking.id], members[0].tunnels[to.id] = asking, to
	if o.Budget != wire.NoDeadline && f.mistake != "an open never times out" {
		asking.timer = time.AfterFunc(time.Duration(o.Budget)*time.Millisecond, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if p.tunnels[o.ID] == asking && !asking.open {
				asking.abort(wire.CodeTimeout)
			}
		})
	}
	members[0].send(wire.AppendOpen(nil, offer))
	return nil
}

func (f *fake) openedTunnel(p *peer, content []byte) error {
	o, err := wire.ParseOpened(content)
	e := p.tunnels[o.ID]
	if err != nil || e == nil {
		return err
	}
	if e.open || o.ID&wire.NodeTunnel == 0 && f.mistake != "the node's ids are like the client's" {
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
	if wire.DefaultLimits().CheckChunk(d) != nil {
		e.abort(wire.CodeInvalid)
		return nil
	}
	e.allowed -= uint32(d.Cost())
	d.ID = e.other.id
	if f.mistake == "chunks are joined" {
		d.Last = true
	}
	e.other.peer.send(wire.AppendData(nil, d))
	return nil
}

func (f *fake) finish(p *peer, content []byte) error {
	id, err := wire.ParseFinish(content)
	e := p.tunnels[id]
	if err != nil || e == nil {
		return err
	}
	if e.finished {
		return unexpected("a second finish")
	}
	e.finished = true
	if e.other.finished || f.mistake == "one finish ends both directions" {
		e.drop()
	}
	e.other.peer.send(wire.AppendFinish(nil, e.other.id))
	e.other.peer.settle()
	p.settle()
	return nil
}
