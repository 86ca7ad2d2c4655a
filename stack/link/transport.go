package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// alpn is the protocol of links in the TLS handshake.
const alpn = "iris/1"

// DefaultMaxMessage is the limit of a message in bytes where none is given.
const DefaultMaxMessage = 1280 << 10

// maxMaxMessage is the largest limit for messages, in bytes.
const maxMaxMessage = 64 << 20

// lanes is the number of message streams each way.
const lanes = 4

// Receive windows in bytes. They bound what a peer can make this node keep. The
// window of the connection is that of all streams together, so that lanes that
// nobody reads cannot stop the control stream.
const (
	streamWindow    = 512 << 10
	maxStreamWindow = 1536 << 10
	linkWindow      = (lanes + 1) * maxStreamWindow
	tunnelWindow    = 256 << 10
	maxTunnelWindow = 1 << 20
)

// Times of a link.
const (
	handshakeTimeout = 3 * time.Second // without a packet from the peer, and for the hello
	idleTimeout      = 5 * time.Second // the layer above sends heartbeats and sees silence earlier
)

// Handshakes from addresses that were not validated: so many at once, so many a
// second. What comes above first has to prove that it gets answers at its
// address, which costs it a round trip.
const (
	freeHandshakes          = 128
	freeHandshakesPerSecond = 64
)

// Config is what a Transport needs.
type Config struct {
	Network    *Network
	Socket     net.PacketConn // *net.UDPConn outside tests; the Transport owns it from New on
	MaxMessage int            // bytes of a message on a lane or the control stream. If zero, 1.25 MiB
	Log        *slog.Logger   // If nil, nothing is logged
}

// Handler gets what happens on links. Per Conn: Up first, then Control and
// Message, Down last and once. Two links of one peer do not overlap.
// Control is called by one goroutine per link, Message by one goroutine per lane
// of a link, Stream by one per trunk; no method may block. msg is valid until return. The turn ends when
// the lane's input is drained.
type Handler interface {
	Up(c *Conn)
	Control(c *Conn, msg []byte)
	Message(t *Turn, c *Conn, msg []byte)
	Down(c *Conn, err error)
	// Stream is a stream that the peer opened, between Up and Down. It returns who
	// gets what comes on it; nil refuses it.
	Stream(c *Conn, s *Stream) StreamHandler
}

// Transport makes and accepts links over one socket. All methods are safe for
// concurrent use.
type Transport struct {
	socket       net.PacketConn
	maxMessage   int
	log          *slog.Logger
	id           ID
	credentials  atomic.Pointer[credentials] // replaced under mu, so that none of links misses it
	quic         *quic.Transport
	probing      sync.Once    // keepProbes
	quicConfig   *quic.Config // of links that are dialled
	trunkConfig  *quic.Config // of trunks that are dialled
	listenConfig *quic.Config // of either, which the handshake does not tell apart in time
	refusals     *refusals
	pauses       pauses
	buffers      *sync.Pool     // of outputs
	wg           sync.WaitGroup // links and dials, which Run waits for

	mu      sync.Mutex // guards the fields below
	phase   phase
	handler Handler
	run     context.Context    // of Run; done when links must end
	stop    context.CancelFunc // ends run
	stopped chan struct{}      // closed when Run has returned
	links   map[ID]*Conn       // from the reservation of a peer's place until Down has returned
	changed chan struct{}      // closed and replaced when a link comes up
	closing sync.Once
	closed  error // of the socket
}

// A phase is where a Transport is in its life.
type phase int

const (
	phaseNew phase = iota
	phaseRunning
	phaseEnded
)

// New makes a node's identity and takes over the socket, which it does not read
// before Run, Dial or ReadProbe. If it fails, the socket stays the caller's.
func New(cfg Config) (*Transport, error) {
	if cfg.Network == nil || cfg.Socket == nil {
		return nil, errors.New("link: Config needs Network and Socket")
	}
	t := &Transport{
		socket:     cfg.Socket,
		maxMessage: cfg.MaxMessage,
		log:        cfg.Log,
		buffers:    newBuffers(),
		links:      make(map[ID]*Conn),
		changed:    make(chan struct{}),
		stopped:    make(chan struct{}),
	}
	if t.maxMessage == 0 {
		t.maxMessage = DefaultMaxMessage
	}
	if t.maxMessage < minMessageLimit || t.maxMessage > maxMaxMessage {
		return nil, fmt.Errorf("link: Config.MaxMessage is %d, not %d to %d", t.maxMessage, minMessageLimit, maxMaxMessage)
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.refusals = &refusals{log: t.log, counts: make(map[string]uint64), logged: make(map[string]time.Time)}
	leaf, id, err := newLeaf(cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	t.id = id
	t.credentials.Store(&credentials{network: cfg.Network, leaf: leaf})
	return t, t.prepareQUIC()
}

// prepareQUIC configures QUIC; its goroutines start at first use.
func (t *Transport) prepareQUIC() error {
	key, err := t.credentials.Load().network.resetKey(t.socket.LocalAddr())
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	warnOfSmallBuffer(t.log, receiveBufferOf(t.socket))
	conn, err := withReceiveOffload(t.socket)
	if err != nil {
		return fmt.Errorf("link: receive offload: %w", err)
	}
	unvalidated := &limiter{burst: freeHandshakes, perSecond: freeHandshakesPerSecond}
	t.quic = &quic.Transport{
		Conn:                conn,
		StatelessResetKey:   &key,
		VerifySourceAddress: func(net.Addr) bool { return !unvalidated.allow(time.Now()) },
		ConnContext:         t.watchHandshake,
	}
	t.quicConfig = &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           handshakeTimeout,
		MaxIdleTimeout:                 idleTimeout,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: linkWindow,
		MaxConnectionReceiveWindow:     linkWindow,
		MaxIncomingStreams:             1, // control
		MaxIncomingUniStreams:          lanes,
		// Every path that carries QUIC carries 1200; discovery finds what fits, up to 1452.
		InitialPacketSize: 1200,
	}
	t.listenConfig = t.quicConfig.Clone()
	t.listenConfig.MaxIncomingStreams = maxStreams
	t.listenConfig.InitialConnectionReceiveWindow = trunkWindow
	t.listenConfig.MaxConnectionReceiveWindow = trunkWindow
	t.trunkConfig = t.listenConfig.Clone()
	t.trunkConfig.InitialStreamReceiveWindow = tunnelWindow
	t.trunkConfig.MaxStreamReceiveWindow = maxTunnelWindow
	t.trunkConfig.MaxIncomingUniStreams = -1
	t.trunkConfig.KeepAlivePeriod = keepAliveEvery
	return nil
}

// watchHandshake counts the handshakes that the dialling side broke off because
// it does not accept this node.
func (t *Transport) watchHandshake(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	addr := addrPort(info.RemoteAddr)
	context.AfterFunc(ctx, func() {
		if refused := (*RefusedError)(nil); errors.As(explain(context.Cause(ctx)), &refused) && refused.Word == refusedByPeer {
			t.refusals.add(refused, addr)
		}
	})
	return ctx, nil
}

// resetKey is the key of stateless resets: it lets the peers of a node that was
// restarted at the same address learn at once that their links are gone. The
// address is part of it because one key for all nodes would let a stranger get
// the reset of one node's link from another node. Nodes that listen on every
// address differ by host name.
func (n *Network) resetKey(local net.Addr) (quic.StatelessResetKey, error) {
	place := local.String()
	if addr := addrPort(local); addr.Addr().IsUnspecified() {
		if host, err := os.Hostname(); err == nil {
			place = host + " " + place
		}
	}
	key, err := n.signer().derive("stateless-reset "+place, 32)
	if err != nil {
		return quic.StatelessResetKey{}, err
	}
	return quic.StatelessResetKey(key), nil
}

// ID is this node's own id.
func (t *Transport) ID() ID { return t.id }

// Addr is the local UDP address.
func (t *Transport) Addr() netip.AddrPort { return addrPort(t.socket.LocalAddr()) }

// Refused counts the handshakes turned away, accepted and dialled ones alike, by
// reason. The reasons are short stable words such as "not-of-this-network". The
// map is the caller's.
func (t *Transport) Refused() map[string]uint64 { return t.refusals.all() }

// keepProbes has QUIC queue what is not QUIC, a few datagrams of it; before its first
// reader comes it drops them.
func (t *Transport) keepProbes() {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, _ = t.quic.ReadNonQUICPacket(done, nil) // nothing can have come yet
}

// ReadProbe reads a datagram that is not QUIC: its first byte is below 0x40. One
// reader at a time; what arrives before the first call of ReadProbe or WriteProbe is dropped. The
// error is that of ctx, or wraps net.ErrClosed once the Transport is closed.
func (t *Transport) ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error) {
	t.probing.Do(t.keepProbes)
	n, addr, err := t.quic.ReadNonQUICPacket(ctx, b)
	if err == nil {
		return n, addrPort(addr), nil
	}
	if ctx.Err() != nil {
		return 0, netip.AddrPort{}, ctx.Err()
	}
	return 0, netip.AddrPort{}, fmt.Errorf("link: read a probe: %w", errors.Join(net.ErrClosed, err))
}

// WriteProbe sends a datagram that is not QUIC. An error concerns this datagram
// only, unless it wraps net.ErrClosed. From the first call on answers are kept for ReadProbe.
func (t *Transport) WriteProbe(b []byte, addr netip.AddrPort) error {
	t.probing.Do(t.keepProbes)
	if _, err := t.quic.WriteTo(b, net.UDPAddrFromAddrPort(addr)); err != nil {
		return fmt.Errorf("link: send a probe to %s: %w", addr, err)
	}
	return nil
}

// addrPort turns an address of QUIC into one of netip, IPv4 as IPv4.
func addrPort(addr net.Addr) netip.AddrPort {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := udp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
