package link

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is one link: an authenticated connection to a peer. It is safe for
// concurrent use.
type Conn struct {
	t         *Transport
	quic      *quic.Conn
	dialled   bool // by this node
	peer      ID
	addr      netip.AddrPort
	control   *output        // set before Up
	lanes     [lanes]*output // set before Up
	barrier   barrier
	trunks    trunks
	standing  standing
	peerLimit int            // bytes of a message that the peer accepts; set before Up
	wg        sync.WaitGroup // readers and writers, which serve waits for
	up        chan struct{}  // closed when Up has returned
	done      chan struct{}  // closed when Down has returned, or the connection never became a link
	received  atomic.Uint64  // messages
	violation sync.Once      // sets broken
	broken    error          // what the peer did that breaks the protocol; read after wg
	failure   error          // why it never became a link; set before done is closed
}

// newConn wraps a connection whose handshake is complete.
func newConn(t *Transport, q *quic.Conn, dialled bool) *Conn {
	leaf := q.ConnectionState().TLS.PeerCertificates[0]
	return &Conn{
		t:        t,
		quic:     q,
		dialled:  dialled,
		peer:     idOf(leaf),
		addr:     addrPort(q.RemoteAddr()),
		up:       make(chan struct{}),
		done:     make(chan struct{}),
		barrier:  barrier{round: make(chan struct{}, 1)},
		trunks:   trunks{dial: make(chan struct{}, 1)},
		standing: newStanding(leaf),
	}
}

// Peer is the id of the node at the other end.
func (c *Conn) Peer() ID { return c.peer }

// Addr is the UDP address of the peer when the link was made.
func (c *Conn) Addr() netip.AddrPort { return c.addr }

// RTT is the smoothed round trip.
func (c *Conn) RTT() time.Duration { return c.quic.ConnectionStats().SmoothedRTT }

// Packets counts the packets of QUIC of a link since it came up. While the received ones grow
// the peer lives, whatever is lost or held up of its messages.
type Packets struct {
	Received, Sent uint64
	Lost           uint64 // of those sent, as far as is known: late ones are no longer lost
}

// Packets counts the packets of the link.
func (c *Conn) Packets() Packets {
	s := c.quic.ConnectionStats()
	return Packets{s.PacketsReceived, s.PacketsSent, s.PacketsLost}
}

// SendControl queues a message on the control stream; it never blocks, and lanes
// do not delay it. A peer that lets the queue of 1 MiB overflow loses its link
// with ReasonOverflow. Errors: ErrFull then, ErrClosed, ErrTooLarge.
func (c *Conn) SendControl(msg []byte) error {
	if len(msg) > c.peerLimit {
		return ErrTooLarge
	}
	err := c.control.append(msg, nil)
	if err == nil {
		c.control.Flush()
	} else if err == ErrFull {
		c.Close(ReasonOverflow)
	}
	return err
}

// Send appends head+body as one message to the lane of flow (flow modulo the
// number of lanes; FIFO per flow), and touches the lane in t; the bytes go out
// when the turn ends. A lane holds 16 MiB of unsent messages, or one that is
// larger. Errors: ErrFull, ErrClosed, ErrTooLarge: provably nothing was sent. nil
// means that the message arrives unless the link goes down.
func (c *Conn) Send(t *Turn, flow uint64, head, body []byte) error {
	if len(head)+len(body) > c.peerLimit {
		return ErrTooLarge
	}
	lane := c.lanes[flow%lanes]
	if err := lane.append(head, body); err != nil {
		return err
	}
	t.Touch(lane)
	return nil
}

// AwaitRoom waits until the lane of flow is at most half full, for those who may
// wait: readers of links do not. What was sent in a turn that has not ended is not
// on its way, so the turn should end first. Its error is that of ctx, or
// ErrClosed.
func (c *Conn) AwaitRoom(ctx context.Context, flow uint64) error {
	return c.lanes[flow%lanes].awaitRoom(ctx)
}

// alive tells whether the connection has not ended yet.
func (c *Conn) alive() bool { return c.quic.Context().Err() == nil }

// isUp tells whether c is a link in use.
func (c *Conn) isUp() bool {
	select {
	case <-c.up:
		return c.alive()
	default:
		return false
	}
}
