package relay

import (
	"github.com/project-iris/iris/spec/wire"
)

// Tunnel is the network's end of a tunnel of a session. Only the session's reader
// calls it, and nothing may wait. Byte slices are valid until return.
type Tunnel interface {
	// Accept accepts a tunnel that was offered with PushOpen; once, at first.
	Accept(o wire.Opened)
	// Data is a part of a message. False: it is beyond what the other side allows.
	Data(last bool, payload []byte) bool
	// Allow allows the other side n bytes more.
	Allow(n uint32)
	// Finish is the end of what this side sends.
	Finish()
	// Abort ends the tunnel: nothing is called or pushed after it.
	Abort(code wire.Code, text []byte)
}

// A tunnelEnd is what a session knows of one of its tunnels: relay.md 10.9.
type tunnelEnd struct {
	tunnel   Tunnel // of the network; nil until Port.Open has returned
	asked    bool   // by this client; offered to it otherwise
	open     bool
	allowed  uint32 // bytes that may still be pushed to the client
	finished bool   // by the client
	over     bool   // the other side has finished
}

// openTunnel handles the wish for a tunnel. relay.md 10.1.
func (s *Session) openTunnel(content []byte) error {
	o, err := wire.ParseOpen(content)
	if err != nil {
		return err
	}
	failure := s.server.cfg.Limits.CheckOpen(o)
	if e := reasonOf(failure); e != nil && e.Code == wire.CodeUnexpected {
		return failure
	}
	end := &tunnelEnd{asked: true, allowed: o.Window}
	used, failure := s.addTunnel(o.ID, end, failure)
	if used {
		return unexpected("an open has the id of a tunnel that is open")
	}
	if e := reasonOf(failure); e != nil {
		return s.sayAbort(o.ID, e)
	}
	s.busy = true
	tunnel := s.port.Open(o)
	s.mu.Lock()
	end.tunnel = tunnel
	s.mu.Unlock()
	return nil
}

// addTunnel notes a tunnel that the client asks for, unless its id is in use, or it
// fails.
func (s *Session) addTunnel(id uint64, end *tunnelEnd, failure error) (used bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tunnels[id] != nil {
		return true, nil
	}
	if failure == nil && s.server.leaving.Load() { // looked at under mu, as in accept
		failure = &wire.Error{Code: wire.CodeClosing, Text: "the node is leaving"}
	}
	if failure == nil {
		failure = s.server.cfg.Limits.CheckTunnels(len(s.tunnels))
	}
	if failure == nil {
		s.putTunnel(id, end)
	}
	return false, failure
}

// putTunnel needs the lock.
func (s *Session) putTunnel(id uint64, end *tunnelEnd) {
	if s.tunnels == nil {
		s.tunnels = make(map[uint64]*tunnelEnd)
	}
	s.tunnels[id] = end
	if !end.asked {
		s.offered++
	}
}

// dropTunnel forgets a tunnel that has ended, if nobody else has. It needs the lock.
func (s *Session) dropTunnel(id uint64, end *tunnelEnd) {
	if s.tunnels[id] != end {
		return
	}
	delete(s.tunnels, id)
	if !end.asked {
		s.offered--
	}
	s.settleLocked()
}

// sayAbort tells the client that a tunnel has come to nothing.
func (s *Session) sayAbort(id uint64, why *wire.Error) error {
	return s.say(smallFrame+len(why.Text), func(b []byte) []byte { return wire.AppendAbort(b, id, why.Code, why.Text) })
}

// find looks a tunnel up for the reader; nil if it is not there: what came for
// it has crossed its end. relay.md 10.8.
func (s *Session) find(id uint64) (end *tunnelEnd, at tunnelEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end = s.tunnels[id]; end != nil {
		at = *end
	}
	return end, at
}

// acceptTunnel handles the acceptance of an offered tunnel. relay.md 10.2.
func (s *Session) acceptTunnel(content []byte) error {
	o, err := wire.ParseOpened(content)
	if err != nil {
		return err
	}
	end, at := s.find(o.ID)
	switch {
	case end == nil:
		return nil
	case at.asked || at.open:
		return unexpected("an opened for a tunnel that was not offered, or is open")
	}
	if failure := reasonOf(s.server.cfg.Limits.CheckOpened(o)); failure != nil {
		if failure.Code == wire.CodeUnexpected {
			return failure
		}
		return s.abortBoth(o.ID, end, failure)
	}
	s.mu.Lock()
	end.open, end.allowed = true, o.Window
	s.mu.Unlock()
	s.busy = true
	end.tunnel.Accept(o)
	return nil
}

// abortBoth ends a tunnel for both sides because of what the client sent.
func (s *Session) abortBoth(id uint64, end *tunnelEnd, why *wire.Error) error {
	s.endTunnel(id, end, why.Code, why.Text)
	return s.sayAbort(id, why)
}

// endTunnel ends a tunnel for the other side, and only then forgets it: a Drain that
// sees it gone may count on the other side's knowing.
func (s *Session) endTunnel(id uint64, end *tunnelEnd, code wire.Code, text string) {
	s.busy = true
	end.tunnel.Abort(code, []byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropTunnel(id, end)
	s.wrote = true
}

// data handles a part of a message. relay.md 10.4, 10.5.
func (s *Session) data(content []byte) error {
	d, err := wire.ParseData(content)
	if err != nil {
		return err
	}
	end, at := s.find(d.ID)
	switch {
	case end == nil:
		return nil
	case !at.open:
		return unexpected("data of a tunnel that is not open yet")
	case at.finished:
		return unexpected("data behind the finish")
	}
	if why := reasonOf(s.server.cfg.Limits.CheckChunk(d)); why != nil {
		return s.abortBoth(d.ID, end, why)
	}
	s.busy = true
	if !at.tunnel.Data(d.Last, d.Payload) {
		return unexpected("data beyond what the other side allows")
	}
	return nil
}

// allow handles what the client is ready to get. relay.md 10.5.
func (s *Session) allow(content []byte) error {
	id, n, err := wire.ParseAllow(content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	end := s.tunnels[id]
	switch {
	case end == nil:
		s.mu.Unlock()
		return nil
	case !end.open:
		s.mu.Unlock()
		return unexpected("an allow for a tunnel that is not open yet")
	}
	end.allowed, err = wire.AddAllowance(end.allowed, n)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.busy = true
	end.tunnel.Allow(n)
	return nil
}

// finishTunnel handles the end of what the client sends. relay.md 10.6.
func (s *Session) finishTunnel(content []byte) error {
	id, err := wire.ParseFinish(content)
	if err != nil {
		return err
	}
	end, at := s.find(id)
	switch {
	case end == nil:
		return nil
	case !at.open || at.finished:
		return unexpected("a finish of a tunnel that is not open yet, or a second one")
	}
	s.busy = true
	end.tunnel.Finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	end.finished = true // only now, as in endTunnel
	if end.over {
		s.dropTunnel(id, end)
		s.wrote = true
	}
	return nil
}

// abortTunnel handles the client's end of a tunnel. relay.md 10.7.
func (s *Session) abortTunnel(content []byte) error {
	id, code, text, err := wire.ParseAbort(content)
	if err != nil {
		return err
	}
	if end, _ := s.find(id); end != nil {
		s.endTunnel(id, end, code, text)
	}
	return nil
}

// closeTunnels aborts what is left when the node closes the session. relay.md
// 6.5. With any other end, what is left is lost: Port.Close sees to that.
func (s *Session) closeTunnels(reason error) {
	why := reasonOf(reason)
	if why == nil || why.Code != wire.CodeClosing {
		return
	}
	s.mu.Lock()
	left := s.tunnels
	s.tunnels, s.offered = nil, 0
	s.mu.Unlock()
	for id, end := range left {
		end.tunnel.Abort(why.Code, []byte(why.Text))
		_ = s.sayAbort(id, why) // a client that leaves no room learns it from the end of its connection
	}
}
