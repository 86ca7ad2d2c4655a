package linktest

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// Paths carries the datagrams of a simulated network. It is safe for concurrent
// use.
type Paths struct {
	mu    sync.Mutex // guards the fields below
	nodes map[netip.AddrPort]simnet.PacketReceiver
	cut   map[path]bool
	watch func(from, to netip.AddrPort, b []byte) bool
}

// A path leads from one address to another.
type path struct{ from, to netip.AddrPort }

func newPaths() *Paths {
	return &Paths{nodes: make(map[netip.AddrPort]simnet.PacketReceiver), cut: make(map[path]bool)}
}

// Cut loses everything between a and b, both ways, until Heal.
func (p *Paths) Cut(a, b netip.AddrPort) {
	p.CutOneWay(a, b)
	p.CutOneWay(b, a)
}

// CutOneWay loses everything that from sends to to, until Heal.
func (p *Paths) CutOneWay(from, to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[path{from, to}] = true
}

// Heal mends all paths that were cut.
func (p *Paths) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.cut)
}

// Watch has f called with every datagram, one at a time: f may change its bytes,
// and loses it by returning false. nil ends that.
func (p *Paths) Watch(f func(from, to netip.AddrPort, b []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = f
}

// Inject delivers a datagram that nobody sent, past Cut and Watch.
func (p *Paths) Inject(from, to netip.AddrPort, b []byte) {
	p.mu.Lock()
	node := p.nodes[to]
	p.mu.Unlock()
	if node != nil {
		node.RecvPacket(simnet.Packet{From: net.UDPAddrFromAddrPort(from), To: net.UDPAddrFromAddrPort(to), Data: slices.Clone(b)})
	}
}

// SendPacket implements simnet.Router. What goes nowhere is lost, as on a network.
func (p *Paths) SendPacket(packet simnet.Packet) error {
	from, to := addrOf(packet.From), addrOf(packet.To)
	if node := p.route(from, to, packet.Data); node != nil {
		node.RecvPacket(packet)
	}
	return nil
}

func (p *Paths) route(from, to netip.AddrPort, b []byte) simnet.PacketReceiver {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut[path{from, to}] || p.watch != nil && !p.watch(from, to, b) {
		return nil
	}
	return p.nodes[to]
}

// AddNode implements simnet.Router.
func (p *Paths) AddNode(addr net.Addr, node simnet.PacketReceiver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[addrOf(addr)] = node
}

func addrOf(addr net.Addr) netip.AddrPort {
	ap := addr.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
