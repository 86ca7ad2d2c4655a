package iris

import "github.com/project-iris/iris/spec/wire"

// broadcasts are what a service takes of its cluster's broadcasts: one inbox.
type broadcasts struct {
	intake
	inbox inbox
}

func (b *broadcasts) init(s *Service, l ServiceLimits) {
	b.kind, b.crew = wire.KindBroadcast, &s.conn.crew
	b.inbox = inbox{
		log: s.conn.log.With("cluster", s.conn.cluster), method: "HandleBroadcast",
		threads: l.BroadcastThreads, memory: l.BroadcastMemory,
		handle: func(m held) { s.handler.HandleBroadcast(m.payload()) },
	}
	if h, ok := s.handler.(BroadcastMessageHandler); ok {
		b.inbox.handle = func(m held) { h.HandleBroadcastMessage(m.message()) }
		b.inbox.method = "HandleBroadcastMessage"
	}
	b.addLocked(&b.inbox)
}

// open lets begin grant credit: Init is done.
func (b *broadcasts) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = true
}

// begin makes s the session that broadcasts come from and returns the credit to
// grant to it.
func (b *broadcasts) begin(s *session) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.beginLocked(s)
}

// close lets no handler start any more.
func (b *broadcasts) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeLocked(&b.inbox)
}

// handleBroadcast queues a message to all members.
func (s *session) handleBroadcast(content []byte) error {
	m, err := wire.ParseBroadcast(content)
	if err != nil {
		return err
	}
	if s.conn.service == nil {
		return unexpected("a broadcast to a client")
	}
	b := &s.conn.service.broadcasts
	return b.admit(s, &b.inbox, hold(m.Payload, m.Headers))
}
