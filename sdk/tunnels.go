package iris

import (
	"context"
	"slices"
	"sync"

	"github.com/project-iris/iris/spec/wire"
)

// tunnels are the open ones of a session, by id.
type tunnels struct {
	mu    sync.Mutex // guards the fields below
	table map[uint64]*Tunnel
	last  uint64 // id that this side gave
	err   error  // none may be opened any more
}

// add enters a tunnel that this side opens, under an id that was never used.
// errNotSent: the session takes no more.
func (ts *tunnels) add(t *Tunnel) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.err != nil {
		return errNotSent
	}
	ts.last++
	t.id = ts.last
	ts.enterLocked(t)
	return nil
}

func (ts *tunnels) enterLocked(t *Tunnel) {
	if ts.table == nil {
		ts.table = make(map[uint64]*Tunnel)
	}
	ts.table[t.id] = t
}

// serve enters a tunnel of the node's; false if its id is in use.
func (ts *tunnels) serve(t *Tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.table[t.id] != nil {
		return false
	}
	ts.enterLocked(t)
	return true
}

// find returns an open tunnel, nil if there is none of the id: frames for it have
// crossed its end. relay.md 10.
func (ts *tunnels) find(id uint64) *Tunnel {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.table[id]
}

func (ts *tunnels) remove(id uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.table, id)
}

// endIfIdle lets nobody open a tunnel any more if there is none.
func (ts *tunnels) endIfIdle() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.table) > 0 {
		return false
	}
	ts.err = errNotSent
	return true
}

// end breaks all tunnels off and lets nobody open one any more.
func (ts *tunnels) end(err error) {
	ts.mu.Lock()
	all := ts.table
	ts.table, ts.err = nil, err
	ts.mu.Unlock()
	for _, t := range all {
		t.fail(err)
	}
}

// handleOpen offers a tunnel to the service, or refuses it.
func (s *session) handleOpen(content []byte) error {
	o, err := wire.ParseOpen(content)
	if err != nil {
		return err
	}
	if s.conn.service == nil || o.ID&wire.NodeTunnel == 0 {
		return unexpected("an open to a client, or with an id of its own")
	}
	window, err := wire.AddAllowance(0, o.Window)
	if err != nil {
		return err
	}
	t := &Tunnel{
		session: s, id: o.ID, name: "tunnel of a client",
		window: window, allowance: window, granted: tunnelWindow, openedOnce: true,
		headers: slices.Clone(o.Headers),
	}
	if !s.conn.service.admitTunnel() {
		s.say(2*ctlSize, func(b []byte) []byte {
			return wire.AppendAbort(b, o.ID, wire.CodeOverloaded, "the service takes no more tunnels")
		})
		return nil
	}
	if !s.tunnels.serve(t) {
		s.conn.service.tunnels.Add(-1)
		return unexpected("an open with the id of another tunnel")
	}
	s.conn.crew.start(func() { s.conn.service.serveTunnel(t) })
	return nil
}

// admitTunnel counts a further tunnel, if there may be one.
func (s *Service) admitTunnel() bool {
	if !s.takesTunnels.Load() {
		return false
	}
	if s.tunnels.Add(1) > s.maxTunnels {
		s.tunnels.Add(-1)
		return false
	}
	return true
}

// serveTunnel accepts a tunnel, which is before anything else is written to it,
// and runs its handler.
func (s *Service) serveTunnel(t *Tunnel) {
	defer s.tunnels.Add(-1)
	returned := false
	defer func() {
		if !returned {
			t.abort(wire.CodeFailed, "the handler panicked")
			return
		}
		_ = t.Close() // how it ended is the handler's to ask
	}()
	o := wire.Opened{ID: t.id, Window: tunnelWindow}
	if err := t.session.write(context.Background(), o.Size(), func(b []byte) []byte { return wire.AppendOpened(b, o) }); err != nil {
		t.fail(ErrLost)
	}
	guard(s.conn.log, "HandleTunnel", func() { s.handler.HandleTunnel(t); returned = true })
}

// handleOpened: the other side accepts a tunnel.
func (s *session) handleOpened(content []byte) error {
	o, err := wire.ParseOpened(content)
	if err != nil {
		return err
	}
	window, err := wire.AddAllowance(0, o.Window)
	if err != nil {
		return err
	}
	t := s.tunnels.find(o.ID)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.openedOnce {
		return unexpected("a tunnel is opened twice")
	}
	t.openedOnce = true
	t.window, t.allowance, t.headers = window, window, slices.Clone(o.Headers)
	t.openOutcome.ring()
	return nil
}

func (s *session) handleData(content []byte) error {
	d, err := wire.ParseData(content)
	if t := s.tunnels.find(d.ID); err == nil && t != nil {
		err = t.data(d)
	}
	return err
}

func (s *session) handleAllow(content []byte) error {
	id, n, err := wire.ParseAllow(content)
	if t := s.tunnels.find(id); err == nil && t != nil {
		err = t.allow(n)
	}
	return err
}

func (s *session) handleFinish(content []byte) error {
	id, err := wire.ParseFinish(content)
	if t := s.tunnels.find(id); err == nil && t != nil {
		err = t.remoteFinish()
	}
	return err
}

func (s *session) handleAbort(content []byte) error {
	id, code, text, err := wire.ParseAbort(content)
	if t := s.tunnels.find(id); err == nil && t != nil {
		t.fail(&abortion{code, text})
	}
	return err
}
