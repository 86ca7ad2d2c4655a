package relay

import (
	"slices"
	"sync"

	"github.com/project-iris/iris/spec/wire"
)

// A fakeNetwork is a network within one test: it takes requests from one
// session to another. The cluster `echo` is its own and answers at once with
// what it got; the cluster `hold` is too, and never answers.
type fakeNetwork struct {
	mu      sync.Mutex
	members map[string][]*fakePort
	calls   map[uint64]call // by the id that the service got
	latest  uint64
	ports   []*fakePort

	topics    map[string][]*fakePort
	tunnels   []*fakeTunnel // ends that are not known to have ended
	ending    func()        // called before a finish or an abort is passed on
	joined    chan struct{} // what Attach returns
	installed chan struct{} // what Subscribe returns; nil: one that is closed
	err       error         // what Attach returns
}

// A call is a request that a member was given.
type call struct {
	member, origin *fakePort
	id             uint64 // the origin's
}

// A fakePort is a session's way into the fakeNetwork.
type fakePort struct {
	network *fakeNetwork
	session *Session
	cluster string
	touched []*Session // owned by the reader

	// Guarded by network.mu.
	requests, replies, drains, closes int
	cancels                           []uint64
}

func newFakeNetwork() *fakeNetwork {
	return &fakeNetwork{members: make(map[string][]*fakePort), topics: make(map[string][]*fakePort), calls: make(map[uint64]call)}
}

func (n *fakeNetwork) Attach(s *Session, cluster string) (Port, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return nil, nil, n.err
	}
	p := &fakePort{network: n, session: s, cluster: cluster}
	n.ports = append(n.ports, p)
	if cluster != "" {
		n.members[cluster] = append(n.members[cluster], p)
	}
	return p, n.joined, nil
}

// port is the port of the i-th session that attached.
func (n *fakeNetwork) port(i int) *fakePort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports[i]
}

// count reads a counter of a port.
func (p *fakePort) count(counter func(p *fakePort) int) int {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	return counter(p)
}

func (p *fakePort) Request(r wire.Request) {
	n := p.network
	n.mu.Lock()
	p.requests++
	n.mu.Unlock()
	switch string(r.Cluster) {
	case "echo":
		p.reply(p, wire.Reply{ID: r.ID, Headers: r.Headers, Payload: r.Payload})
	case "hold":
	default:
		p.forward(r)
	}
}

// forward gives a request to the first member with credit.
func (p *fakePort) forward(r wire.Request) {
	n := p.network
	n.mu.Lock()
	members := n.members[string(r.Cluster)]
	n.mu.Unlock()
	code := wire.CodeNoService
	for _, m := range members {
		n.mu.Lock()
		n.latest++
		id := n.latest
		n.calls[id] = call{m, p, r.ID}
		n.mu.Unlock()
		given := r
		given.ID = id
		if m.session.PushRequest(given) {
			p.touch(m.session)
			return
		}
		n.mu.Lock()
		delete(n.calls, id)
		n.mu.Unlock()
		code = wire.CodeOverloaded
	}
	p.reply(p, wire.Reply{ID: r.ID, Code: code})
}

func (p *fakePort) reply(to *fakePort, r wire.Reply) {
	to.session.PushReply(r)
	p.touch(to.session)
}

func (p *fakePort) touch(s *Session) { p.touched = append(p.touched, s) }

func (p *fakePort) Reply(r wire.Reply) {
	n := p.network
	n.mu.Lock()
	p.replies++
	c, known := n.calls[r.ID]
	delete(n.calls, r.ID)
	n.mu.Unlock()
	if known {
		r.ID = c.id
		p.reply(c.origin, r)
	}
}

func (p *fakePort) Cancel(id uint64) {
	n := p.network
	n.mu.Lock()
	p.cancels = append(p.cancels, id)
	var cancelled []*Session
	for given, c := range n.calls {
		if c.origin == p && c.id == id {
			delete(n.calls, given)
			defer c.member.session.PushCancel(given)
			cancelled = append(cancelled, c.member.session)
		}
	}
	n.mu.Unlock()
	p.touched = append(p.touched, cancelled...)
	p.reply(p, wire.Reply{ID: id, Code: wire.CodeCancelled})
}

func (p *fakePort) Drain() {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.drains++
	delete(p.network.members, p.cluster)
}

func (p *fakePort) Flush() {
	for _, s := range p.touched {
		s.Flush()
	}
	p.touched = p.touched[:0]
}

// Close fails what the session was given.
func (p *fakePort) Close() {
	n := p.network
	n.mu.Lock()
	p.closes++
	if p.cluster != "" {
		delete(n.members, p.cluster)
	}
	var lost []call
	for id, c := range n.calls {
		if c.member == p {
			lost = append(lost, c)
			delete(n.calls, id)
		}
	}
	var broken []*fakeTunnel
	for _, x := range n.tunnels {
		if x.port == p && x.peer != nil {
			broken = append(broken, x)
		}
	}
	for topic := range n.topics {
		n.topics[topic] = slices.DeleteFunc(n.topics[topic], func(q *fakePort) bool { return q == p })
	}
	n.mu.Unlock()
	for _, c := range lost {
		p.reply(c.origin, wire.Reply{ID: c.id, Code: wire.CodeLost})
	}
	for _, x := range broken {
		x.peer.port.session.PushAbort(x.peer.id, wire.CodeLost, nil)
		p.touch(x.peer.port.session)
	}
	p.Flush()
}

// Broadcast gives a message to every member.
func (p *fakePort) Broadcast(m wire.Broadcast) wire.Code {
	p.network.mu.Lock()
	members := slices.Clone(p.network.members[string(m.Cluster)])
	p.network.mu.Unlock()
	m.ID = 0
	for _, to := range members {
		to.session.PushBroadcast(m)
		p.touch(to.session)
	}
	if len(members) == 0 {
		return wire.CodeNoService
	}
	return wire.CodeOK
}

// Publish gives an event to every subscriber.
func (p *fakePort) Publish(m wire.Publish) wire.Code {
	p.network.mu.Lock()
	subscribers := slices.Clone(p.network.topics[string(m.Topic)])
	p.network.mu.Unlock()
	for _, to := range subscribers {
		to.session.PushEvent(wire.Event{Topic: m.Topic, Headers: m.Headers, Payload: m.Payload})
		p.touch(to.session)
	}
	return wire.CodeOK
}

// Subscribe takes every topic. It is effective when installed is closed, or at once.
func (p *fakePort) Subscribe(topic []byte) <-chan struct{} {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.network.topics[string(topic)] = append(p.network.topics[string(topic)], p)
	if p.network.installed != nil {
		return p.network.installed
	}
	now := make(chan struct{})
	close(now)
	return now
}

func (p *fakePort) Unsubscribe(topic []byte) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.network.topics[string(topic)] = slices.DeleteFunc(p.network.topics[string(topic)], func(q *fakePort) bool { return q == p })
}

// Open offers a tunnel to the first member.
func (p *fakePort) Open(o wire.Open) Tunnel {
	n := p.network
	n.mu.Lock()
	members := slices.Clone(n.members[string(o.Cluster)])
	n.latest++
	id := n.latest | wire.NodeTunnel
	n.mu.Unlock()
	a := &fakeTunnel{port: p, id: o.ID}
	for _, m := range members {
		b := &fakeTunnel{port: m, id: id, peer: a}
		a.peer = b
		offer := o
		offer.ID = id
		if m.session.PushOpen(offer, b) {
			n.mu.Lock()
			n.tunnels = append(n.tunnels, a, b)
			n.mu.Unlock()
			p.touch(m.session)
			return a
		}
	}
	p.session.PushAbort(o.ID, wire.CodeNoService, nil)
	p.touch(p.session)
	return a
}

// A fakeTunnel is one end of a tunnel; it knows no allowance but what `full` in a
// payload says.
type fakeTunnel struct {
	port *fakePort
	id   uint64
	peer *fakeTunnel
}

func (x *fakeTunnel) Accept(o wire.Opened) {
	o.ID = x.peer.id
	x.pass(x.peer.port.session.PushOpened(o))
}

func (x *fakeTunnel) Data(last bool, payload []byte) bool {
	if string(payload) == "full" {
		return false
	}
	x.pass(x.peer.port.session.PushData(wire.Data{ID: x.peer.id, Last: last, Payload: payload}))
	return true
}

func (x *fakeTunnel) Allow(n uint32) { x.pass(x.peer.port.session.PushAllow(x.peer.id, n)) }

func (x *fakeTunnel) Finish() {
	x.port.network.beforeEnd()
	x.pass(x.peer.port.session.PushFinish(x.peer.id))
}

func (x *fakeTunnel) Abort(code wire.Code, text []byte) {
	x.port.network.beforeEnd()
	x.peer.port.session.PushAbort(x.peer.id, code, text)
	x.port.touch(x.peer.port.session)
}

func (n *fakeNetwork) beforeEnd() {
	if n.ending != nil {
		n.ending()
	}
}

func (x *fakeTunnel) pass(ok bool) {
	x.port.touch(x.peer.port.session)
	if !ok {
		x.port.session.PushAbort(x.id, wire.CodeOverloaded, nil)
		x.port.touch(x.port.session)
	}
}
