package relay

import (
	"github.com/project-iris/iris/spec/wire"
)

// PushOpen offers the service a tunnel, with an id that the node has never used
// on this connection; t is the network's end. False: it drains, is at its limit, or
// does not read; nothing was done.
func (s *Session) PushOpen(o wire.Open, t Tunnel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil, s.cluster == "", s.drain != notDraining, s.server.leaving.Load():
		return false
	case s.server.cfg.Limits.CheckTunnels(len(s.tunnels)) != nil, s.tunnels[o.ID] != nil:
		return false
	}
	b, err := s.begin(o.Size())
	if err != nil {
		return false
	}
	s.out.Commit(wire.AppendOpen(b, o))
	s.putTunnel(o.ID, &tunnelEnd{tunnel: t})
	return true
}

// PushOpened tells the client that its tunnel is open.
func (s *Session) PushOpened(o wire.Opened) bool {
	return s.push(o.ID, o.Size(), func(end *tunnelEnd, b []byte) []byte {
		end.open = true
		return wire.AppendOpened(b, o)
	})
}

// PushData gives the client a part of a message.
func (s *Session) PushData(d wire.Data) bool {
	return s.push(d.ID, d.Size(), func(end *tunnelEnd, b []byte) []byte {
		end.allowed -= min(end.allowed, uint32(d.Cost()))
		return wire.AppendData(b, d)
	})
}

// PushAllow tells how much more the client may send.
func (s *Session) PushAllow(id uint64, n uint32) bool {
	return s.push(id, smallFrame, func(_ *tunnelEnd, b []byte) []byte { return wire.AppendAllow(b, id, n) })
}

// PushFinish tells that nothing more comes from the other side.
func (s *Session) PushFinish(id uint64) bool {
	return s.push(id, smallFrame, func(end *tunnelEnd, b []byte) []byte {
		end.over = true
		return wire.AppendFinish(b, id)
	})
}

// push gives the client a frame of a tunnel. False: it left no room, so that the
// tunnel has been aborted for it, as overloaded, and is to be for the other side.
// A tunnel that is not there has ended: relay.md 10.9.
func (s *Session) push(id uint64, size int, add func(end *tunnelEnd, b []byte) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.tunnels[id]
	if end == nil || s.reason != nil {
		return true
	}
	b, err := s.begin(size)
	if err != nil {
		s.abortLocked(id, end, wire.CodeOverloaded, "the client does not read")
		return false
	}
	s.out.Commit(add(end, b))
	if end.over && end.finished {
		s.dropTunnel(id, end)
	}
	return true
}

// PushAbort ends a tunnel for the client.
func (s *Session) PushAbort(id uint64, code wire.Code, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end := s.tunnels[id]; end != nil && s.reason == nil {
		s.abortLocked(id, end, code, string(text))
	}
}

// abortLocked ends a tunnel for the client, which is ended itself if it leaves no
// room even for that.
func (s *Session) abortLocked(id uint64, end *tunnelEnd, code wire.Code, text string) {
	b, err := s.begin(smallFrame + len(text))
	if err != nil { // the reserve is for small frames
		text = ""
		b, err = s.out.Begin(smallFrame)
	}
	if err != nil {
		_ = s.endLocked(&wire.Error{Code: wire.CodeUnresponsive, Text: "the client does not read"})
		return
	}
	s.out.Commit(wire.AppendAbort(b, id, code, text))
	s.dropTunnel(id, end)
}
