package link

import "time"

// Health is how a link does. What is counted is counted since the link came up;
// bytes and packets are those of QUIC, without the headers of UDP and IP.
type Health struct {
	RTT, MinRTT                    time.Duration // smoothed, and the least
	MessagesSent, MessagesReceived uint64        // of lanes and control stream, without hellos
	BytesSent, BytesReceived       uint64        // what was sent again counts again
	PacketsSent, PacketsReceived   uint64
	PacketsLost                    uint64 // of those sent, as far as is known: late ones are no longer lost
	CongestionWindow               uint64 // bytes that may be on their way
}

// Health tells how the link to a peer does, and false if there is none.
func (t *Transport) Health(id ID) (Health, bool) {
	t.mu.Lock()
	c := t.links[id]
	t.mu.Unlock()
	if c == nil || !c.isUp() {
		return Health{}, false
	}
	return c.health(), true
}

func (c *Conn) health() Health {
	s := c.quic.ConnectionStats()
	sent := c.control.appended()
	for _, lane := range c.lanes {
		sent += lane.appended()
	}
	return Health{
		RTT: s.SmoothedRTT, MinRTT: s.MinRTT,
		MessagesSent: sent, MessagesReceived: c.received.Load(),
		BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
		PacketsSent: s.PacketsSent, PacketsReceived: s.PacketsReceived, PacketsLost: s.PacketsLost,
		CongestionWindow: s.CongestionWindow,
	}
}

// appended is how many messages were queued so far.
func (o *output) appended() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.messages
}
