package conformance

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

// A fake is a node of its own, in memory, that follows relay.md but for one
// mistake, which a test chooses. It is as simple as it can be: one mutex, no
// bounds beyond the protocol's.
type fake struct {
	mistake string // a name of mistakes, or empty
	address string
	quiet   time.Duration // after which a client is asked, and given up

	mu      sync.Mutex // guards the fields below and those of its peers
	peers   map[*peer]bool
	members map[string][]*peer
	lastID  uint64
	held    []byte // an event, or data, that another frame overtakes
}

// A peer is an attached client.
type peer struct {
	conn     net.Conn
	out      chan []byte // closed behind the last frame
	closed   bool
	mistake  string // of the fake
	cluster  string // empty: a client
	draining bool
	drained  bool
	credit   [3]uint32
	topics   map[string]bool
	asked    map[uint64]*call // own requests
	given    map[uint64]*call // of others
	tunnels  map[uint64]*side
	late     func() // what is done before the next frame
	heard    *time.Timer
	pinged   bool
}

// A call is a request that is unanswered.
type call struct {
	from, to     *peer
	fromID, toID uint64
	timer        *time.Timer
}

// newFake listens on the loopback address until the test ends.
func newFake(t *testing.T, mistake string) *fake {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fake{mistake: mistake, address: listener.Addr().String(), quiet: 15 * time.Second, peers: map[*peer]bool{}, members: map[string][]*peer{}, lastID: 1 << 63}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p := &peer{conn: conn, mistake: mistake, out: make(chan []byte, 4096), topics: map[string]bool{}, asked: map[uint64]*call{}, given: map[uint64]*call{}, tunnels: map[uint64]*side{}}
			wg.Go(p.write)
			wg.Go(func() { f.serve(p) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.mu.Lock()
		for p := range f.peers {
			_ = p.conn.Close()
		}
		f.mu.Unlock()
		wg.Wait()
	})
	return f
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", f.address)
}

func (f *fake) port() int {
	_, port, _ := net.SplitHostPort(f.address)
	n, _ := strconv.Atoi(port)
	return n
}

// write writes what is sent to the peer, then closes the connection.
func (p *peer) write() {
	for b := range p.out {
		_, _ = p.conn.Write(b)
	}
	if tcp, ok := p.conn.(*net.TCPConn); ok { // a reset would overtake the last frame
		_ = tcp.CloseWrite()
	}
}

func (p *peer) send(frame []byte) {
	if !p.closed {
		p.out <- frame
	}
}

// end sends the last frame.
func (p *peer) end(frame []byte) {
	p.send(frame)
	if !p.closed {
		p.closed = true
		close(p.out)
	}
}

// serve reads one connection until it ends.
func (f *fake) serve(p *peer) {
	f.mu.Lock()
	f.peers[p] = true
	f.mu.Unlock()
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
	r := wire.NewReader(p.conn, wire.HandshakeFrame)
	opened, err := f.open(p, r)
	if err == nil {
		_ = p.conn.SetReadDeadline(time.Time{})
		f.watch(p)
		r.SetLimit(wire.DefaultLimits().Frame)
		if f.mistake == "a frame of the limit is too large" {
			r.SetLimit(wire.DefaultLimits().Frame - 1)
		}
		for err == nil {
			var content []byte
			if content, err = r.Next(); err == nil {
				err = f.frame(p, content)
			}
		}
	}
	f.mu.Lock()
	f.leave(p)
	var broken *wire.Error
	switch {
	case errors.As(err, &broken) && broken.Code == wire.CodeTooLarge && f.mistake == "what is too large is not told":
		p.end(nil)
	case errors.As(err, &broken) && opened && f.mistake == "it refuses what is open":
		p.end(wire.AppendRefuse(nil, broken.Code, broken.Text))
	case errors.As(err, &broken) && (opened || f.mistake == "it says bye in the opening"):
		p.end(wire.AppendBye(nil, broken.Code, broken.Text))
	case errors.As(err, &broken):
		p.end(wire.AppendRefuse(nil, broken.Code, broken.Text))
	default:
		p.end(nil)
	}
	f.mu.Unlock()
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
	for buf := make([]byte, 4096); ; { // what is on its way must not reset the connection
		if _, err := p.conn.Read(buf); err != nil {
			break
		}
	}
	_ = p.conn.Close()
	f.mu.Lock()
	delete(f.peers, p)
	f.mu.Unlock()
}

// watch begins to keep the time of relay.md 6.2.
func (f *fake) watch(p *peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.heard = time.AfterFunc(f.quiet, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case p.closed || f.mistake == "a client that is quiet is not asked":
		case !p.pinged:
			p.pinged = true
			p.send(wire.AppendPing(nil, 1))
			p.heard.Reset(f.quiet)
		case f.mistake != "a client that does not answer is kept":
			p.end(wire.AppendBye(nil, wire.CodeUnresponsive, ""))
		}
	})
}

// open reads the hello and answers it.
func (f *fake) open(p *peer, r *wire.Reader) (bool, error) {
	content, err := r.Next()
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return false, &wire.Error{Code: wire.CodeHandshakeTimeout}
	}
	if err != nil {
		return false, err
	}
	op, err := wire.ParseOp(content)
	if err != nil {
		return false, err
	}
	if op != wire.OpHello {
		return false, unexpected("no hello")
	}
	hello, err := wire.ParseHello(content)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if code := f.judge(hello); code != wire.CodeOK {
		return false, &wire.Error{Code: code}
	}
	w := wire.Welcome{Version: 1, Limits: wire.DefaultLimits()}
	switch f.mistake {
	case "the highest version is told":
		w.Version = hello.Max
	case "features are offered that it does not have":
		w.Features = hello.Features
	case "its limits contradict each other":
		w.Limits.Frame = w.Limits.Payload
	}
	p.cluster = string(hello.Cluster)
	p.send(wire.AppendWelcome(nil, w))
	if p.cluster != "" && !wire.Reserved(hello.Cluster) {
		f.members[p.cluster] = append(f.members[p.cluster], p)
	}
	return true, nil
}

// judge finds why a hello is refused: relay.md 2. The caller holds mu.
func (f *fake) judge(hello wire.Hello) wire.Code {
	if _, err := hello.CommonVersion(); err != nil {
		if f.mistake == "another version is malformed" {
			return wire.CodeMalformed
		}
		return err.(*wire.Error).Code
	}
	required := slices.ContainsFunc(hello.Features, func(s string) bool { return s[0] == '!' })
	reserved := wire.Reserved(hello.Cluster) && f.mistake != "anybody registers the node's names"
	long := len(hello.Cluster) > 0 && wire.DefaultLimits().CheckName(hello.Cluster) != nil
	switch {
	case required && f.mistake != "a required feature is overlooked":
		return wire.CodeFeature
	case reserved || long || f.mistake == "the longest name is not registered" && len(hello.Cluster) >= 255:
		return wire.CodeName
	case len(hello.Options) > 0 && f.mistake == "an option must be known":
		return wire.CodeMalformed
	case len(f.members[string(hello.Cluster)]) > 0 && f.mistake == "a cluster has one member":
		return wire.CodeName
	}
	return wire.CodeOK
}

func unexpected(text string) error { return &wire.Error{Code: wire.CodeUnexpected, Text: text} }

// leave ends all that a connection has. The caller holds mu.
func (f *fake) leave(p *peer) {
	f.retire(p)
	if clear(p.topics); p.heard != nil {
		p.heard.Stop()
	}
	for _, c := range p.given {
		code := wire.CodeLost
		if f.mistake == "a lost service is a timeout" {
			code = wire.CodeTimeout
		}
		c.answer(code)
	}
	for _, c := range p.asked {
		if f.mistake != "requests of a lost client go on" {
			c.to.send(wire.AppendCancel(nil, c.toID))
		}
		c.forget()
	}
	for _, e := range p.tunnels {
		e.drop()
		if f.mistake != "a lost tunnel is not told" {
			e.other.peer.send(wire.AppendAbort(nil, e.other.id, wire.CodeLost, ""))
		}
		e.other.peer.settle()
	}
}

// retire takes a service out of its cluster.
func (f *fake) retire(p *peer) {
	f.members[p.cluster] = slices.DeleteFunc(f.members[p.cluster], func(m *peer) bool { return m == p })
}

// settle tells a service that it is drained, once it is.
func (p *peer) settle() {
	if !p.draining || p.drained || len(p.given) > 0 && p.mistake != "drained does not wait for requests" {
		return
	}
	for id := range p.tunnels {
		if id&wire.NodeTunnel != 0 || p.mistake == "drained waits for the service's own tunnels" {
			return
		}
	}
	p.drained = true
	p.send(wire.AppendDrained(nil))
	if p.mistake == "drained comes twice" {
		p.send(wire.AppendDrained(nil))
	}
}

// frame handles one frame of an open connection.
func (f *fake) frame(p *peer, content []byte) error {
	op, err := wire.ParseOp(content)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p.pinged = false
	p.heard.Reset(f.quiet)
	if p.late != nil && op != wire.OpBye {
		p.late()
	}
	if content[0] != 0x93 && op == wire.OpUnsubscribe && f.mistake == "a further field is refused" {
		return &wire.Error{Code: wire.CodeMalformed}
	}
	switch op {
	case wire.OpPing:
		token, err := wire.ParsePing(content)
		switch f.mistake {
		case "a token has 32 bits":
			token = uint64(uint32(token))
		case "a ping is answered whatever it is":
			err = nil
		}
		p.send(wire.AppendPong(nil, token))
		return err
	case wire.OpPong:
		_, err := wire.ParsePong(content)
		return err
	case wire.OpCredit:
		return f.grant(p, content)
	case wire.OpDrain:
		return f.drain(p, content)
	case wire.OpBye:
		if _, _, err := wire.ParseBye(content); err != nil && f.mistake != "a malformed bye is a bye" {
			return err
		}
		if f.mistake == "a bye is passed over" {
			return nil
		}
		return net.ErrClosed
	case wire.OpRequest, wire.OpReply, wire.OpCancel:
		return f.request(p, op, content)
	case wire.OpBroadcast, wire.OpPublish, wire.OpSubscribe, wire.OpUnsubscribe:
		return f.message(p, op, content)
	case wire.OpOpen, wire.OpOpened, wire.OpData, wire.OpAllow, wire.OpFinish, wire.OpAbort:
		return f.tunnel(p, op, content)
	}
	return unexpected("not of a client")
}

func (f *fake) grant(p *peer, content []byte) error {
	kind, n, err := wire.ParseCredit(content)
	if err != nil {
		return err
	}
	if kind > wire.KindEvent || p.cluster == "" && kind != wire.KindEvent {
		return unexpected("kind of credit")
	}
	switch sum, err := wire.AddCredit(p.credit[kind], n); {
	case n == 0 && f.mistake == "credit of nothing ends the connection":
		return unexpected("credit of nothing")
	case err != nil && f.mistake == "credit beyond the bound is cut":
		p.credit[kind] = wire.MaxCredit
	case err != nil:
		return err
	default:
		p.credit[kind] = sum
	}
	return nil
}

func (f *fake) drain(p *peer, content []byte) error {
	if err := wire.ParseDrain(content); err != nil {
		return err
	}
	if p.draining && f.mistake == "a second drain is passed over" {
		return nil
	}
	if p.cluster == "" || p.draining {
		return unexpected("drain")
	}
	p.draining = true
	if f.retire(p); f.mistake == "a drain ends subscriptions" {
		clear(p.topics)
	}
	if f.mistake == "drained does not wait" {
		p.drained = true
		p.send(wire.AppendDrained(nil))
	}
	p.settle()
	return nil
}
