package fakenode

import (
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// An end is one side of a tunnel, as the node sees it.
type end struct {
	session  *session
	id       uint64
	peer     *end
	opened   bool
	finished bool
	allowed  uint32 // bytes that the program may send
}

// open offers a tunnel to the next member.
func (s *session) open(content []byte) error {
	o, err := wire.ParseOpen(content)
	if err != nil {
		return err
	}
	n := s.node
	if text := n.cfg.Refusal; text != "" {
		s.push(func(b []byte) []byte { return wire.AppendAbort(b, o.ID, wire.CodeFailed, text) })
		return nil
	}
	near := &end{session: s, id: o.ID}
	members := n.clusters[string(o.Cluster)]
	if len(members) == 0 || n.leaving {
		code := wire.CodeNoService
		if n.leaving {
			code = wire.CodeClosing
		}
		s.push(func(b []byte) []byte { return wire.AppendAbort(b, o.ID, code, "") })
		return nil
	}
	m := members[0]
	n.clusters[string(o.Cluster)] = append(members[1:len(members):len(members)], m)
	n.lastID++
	far := &end{session: m, id: n.lastID | wire.NodeTunnel, peer: near, allowed: o.Window}
	near.peer = far
	s.tunnels[near.id], m.tunnels[far.id] = near, far
	if o.Budget != wire.NoDeadline {
		time.AfterFunc(time.Duration(o.Budget)*time.Millisecond, func() { n.expireOpen(near) })
	}
	o.ID = far.id
	m.push(func(b []byte) []byte { return wire.AppendOpen(b, o) })
	return nil
}

func (n *Node) expireOpen(near *end) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if near.opened || near.session.tunnels[near.id] != near {
		return
	}
	near.abort(wire.CodeTimeout, "")
	near.peer.abort(wire.CodeTimeout, "")
}

// abort tells the program of the end of a tunnel.
func (e *end) abort(code wire.Code, text string) {
	delete(e.session.tunnels, e.id)
	e.session.push(func(b []byte) []byte { return wire.AppendAbort(b, e.id, code, text) })
}

// tunnel passes a frame of an open tunnel on; others have crossed its end.
func (s *session) tunnel(op wire.Op, content []byte) error {
	switch op {
	case wire.OpOpened:
		o, err := wire.ParseOpened(content)
		if e := s.tunnels[o.ID]; err == nil && e != nil {
			e.opened, e.peer.opened, e.peer.allowed = true, true, o.Window
			o.ID = e.peer.id
			if h := e.session.node.cfg.Opened; len(h) > 0 {
				o.Headers = h
			}
			e.peer.session.push(func(b []byte) []byte { return wire.AppendOpened(b, o) })
		}
		return err
	case wire.OpData:
		d, err := wire.ParseData(content)
		if e := s.tunnels[d.ID]; err == nil && e != nil {
			return e.data(d)
		}
		return err
	case wire.OpAllow:
		id, n, err := wire.ParseAllow(content)
		if e := s.tunnels[id]; err == nil && e != nil {
			if e.peer.allowed, err = wire.AddAllowance(e.peer.allowed, n); err == nil {
				e.peer.session.push(func(b []byte) []byte { return wire.AppendAllow(b, e.peer.id, n) })
			}
		}
		return err
	case wire.OpFinish:
		id, err := wire.ParseFinish(content)
		if e := s.tunnels[id]; err == nil && e != nil {
			return e.finish()
		}
		return err
	}
	id, code, text, err := wire.ParseAbort(content)
	if e := s.tunnels[id]; err == nil && e != nil {
		delete(s.tunnels, id)
		e.peer.abort(code, text)
	}
	return err
}

func (e *end) data(d wire.Data) error {
	if uint64(d.Cost()) > uint64(e.allowed) || e.finished || !e.opened {
		return &wire.Error{Code: wire.CodeUnexpected, Clause: "10.5", Text: "data beyond what was allowed"}
	}
	e.allowed -= uint32(d.Cost())
	d.ID = e.peer.id
	e.peer.session.push(func(b []byte) []byte { return wire.AppendData(b, d) })
	return nil
}

func (e *end) finish() error {
	if e.finished || !e.opened {
		return &wire.Error{Code: wire.CodeUnexpected, Clause: "10.6", Text: "a second finish"}
	}
	e.finished = true
	e.peer.session.push(func(b []byte) []byte { return wire.AppendFinish(b, e.peer.id) })
	if e.peer.finished {
		delete(e.session.tunnels, e.id)
		delete(e.peer.session.tunnels, e.peer.id)
	}
	return nil
}

// Tunnels counts the open ends of tunnels.
func (n *Node) Tunnels() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := 0
	for s := range n.sessions {
		open += len(s.tunnels)
	}
	return open
}
