package fakenode

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

// A session is one attached program. Its fields are guarded by node.mu.
type session struct {
	node *Node
	conn net.Conn
	in   *wire.Reader
	out  *wire.Output

	cluster    string
	credits    [3]uint32 // by kind
	tunnels    map[uint64]*end
	unanswered int // its own requests
	given      map[uint64]bool
	draining   bool
}

// push sends a frame; it needs node.mu. It never blocks; a broken connection is
// the reader's to notice.
func (s *session) push(add func([]byte) []byte) {
	frame := add(s.node.scratch[:0])
	s.node.scratch = frame
	b, err := s.out.Begin(len(frame))
	if err != nil {
		return
	}
	s.out.Commit(append(b, frame...))
	if s.node.more {
		s.node.touched[s] = true
		return
	}
	s.out.Flush()
}

// flushLocked writes what was pushed while more frames were to be handled.
func (n *Node) flushLocked() {
	n.more = false
	for s := range n.touched {
		s.out.Flush()
	}
	clear(n.touched)
}

var errBye = errors.New("fakenode: bye")

// run reads the program's frames until it is gone.
func (s *session) run() {
	err := s.greet()
	for err == nil {
		var content []byte
		if content, err = s.in.Next(); err == nil {
			err = s.handle(content)
		}
	}
	s.gone()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var broken *wire.Error
	if errors.As(err, &broken) {
		s.node.mu.Lock()
		s.push(func(b []byte) []byte { return wire.AppendBye(b, broken.Code, broken.Text) })
		s.node.mu.Unlock()
	} else if !errors.Is(err, errBye) {
		cancel()
	}
	_ = s.out.Close(ctx)
}

// greet answers the hello.
func (s *session) greet() error {
	content, err := s.in.Next()
	if err != nil {
		return err
	}
	hello, err := wire.ParseHello(content)
	if err != nil {
		return err
	}
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hellos[string(hello.Cluster)]++
	if code := n.refuse; code != wire.CodeOK {
		s.push(func(b []byte) []byte { return wire.AppendRefuse(b, code, "as the test says") })
		return errBye
	}
	s.cluster = string(hello.Cluster)
	s.push(func(b []byte) []byte {
		return wire.AppendWelcome(b, wire.Welcome{Version: wire.Version, Limits: n.cfg.Limits})
	})
	return nil
}

// handle acts on one frame.
func (s *session) handle(content []byte) error {
	op, err := wire.ParseOp(content)
	if err != nil {
		return err
	}
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.node.more = true
	defer func() {
		if s.node.more = false; !s.in.Buffered() {
			s.node.flushLocked()
		}
	}()
	switch op {
	case wire.OpRequest:
		return s.request(content)
	case wire.OpReply:
		return s.reply(content)
	case wire.OpCancel:
		return s.cancel(content)
	case wire.OpCredit:
		return s.grant(content)
	case wire.OpBroadcast:
		return s.broadcast(content)
	case wire.OpPublish:
		return s.publish(content)
	case wire.OpSubscribe:
		return s.subscribe(content)
	case wire.OpUnsubscribe:
		return s.unsubscribe(content)
	case wire.OpOpen:
		return s.open(content)
	case wire.OpOpened, wire.OpData, wire.OpAllow, wire.OpFinish, wire.OpAbort:
		return s.tunnel(op, content)
	case wire.OpDrain:
		s.withdraw()
		s.draining = true
		s.settleLocked()
		return nil
	case wire.OpPing:
		token, err := wire.ParsePing(content)
		s.push(func(b []byte) []byte { return wire.AppendPong(b, token) })
		return err
	case wire.OpPong:
		s.node.pongs++
		return nil
	case wire.OpBye:
		code, _, err := wire.ParseBye(content)
		s.node.byes = append(s.node.byes, code)
		return errors.Join(errBye, err)
	}
	return &wire.Error{Code: wire.CodeUnexpected, Clause: "6.4", Text: "unexpected " + op.String()}
}

// grant notes credit; the first one for requests makes the session a member.
func (s *session) grant(content []byte) error {
	kind, n, err := wire.ParseCredit(content)
	if err != nil {
		return err
	}
	if kind > wire.KindEvent || kind != wire.KindEvent && s.cluster == "" {
		return &wire.Error{Code: wire.CodeUnexpected, Clause: "5.5", Text: "credit of another kind"}
	}
	if s.credits[kind], err = wire.AddCredit(s.credits[kind], n); err != nil || kind != wire.KindRequest {
		return err
	}
	if members := s.node.clusters[s.cluster]; !slices.Contains(members, s) {
		s.node.clusters[s.cluster] = append(members, s)
	}
	return nil
}

// request hands a request to the next member that has credit.
func (s *session) request(content []byte) error {
	r, err := wire.ParseRequest(content)
	if err != nil {
		return err
	}
	n := s.node
	s.unanswered++
	members := n.clusters[string(r.Cluster)]
	switch {
	case n.leaving:
		s.answer(wire.Reply{ID: r.ID, Code: wire.CodeClosing})
		return nil
	case uint64(s.unanswered) > n.cfg.Limits.Requests:
		s.answer(wire.Reply{ID: r.ID, Code: wire.CodeOverloaded, Text: []byte("too many unanswered requests")})
		return nil
	case len(members) == 0:
		s.answer(wire.Reply{ID: r.ID, Code: wire.CodeNoService})
		return nil
	}
	at := slices.IndexFunc(members, func(m *session) bool { return m.credits[wire.KindRequest] > 0 })
	if at < 0 {
		s.answer(wire.Reply{ID: r.ID, Code: wire.CodeOverloaded})
		return nil
	}
	m := members[at]
	n.clusters[string(r.Cluster)] = append(slices.Delete(members, at, at+1), m)
	m.credits[wire.KindRequest]--
	n.lastID++
	relayed := &request{id: n.lastID, from: s, to: m, fromID: r.ID}
	n.relayed[relayed.id] = relayed
	m.given[relayed.id] = true
	if r.Budget != wire.NoDeadline && !n.cfg.NoTimeouts {
		relayed.timer = time.AfterFunc(time.Duration(r.Budget)*time.Millisecond, func() { n.expire(relayed) })
	}
	r.ID = relayed.id
	m.push(func(b []byte) []byte { return wire.AppendRequest(b, r) })
	return nil
}

// answer ends a request of the session's own.
func (s *session) answer(r wire.Reply) {
	s.unanswered--
	s.push(func(b []byte) []byte { return wire.AppendReply(b, r) })
	s.settleLocked()
}

// settleLocked tells a draining service that nothing is open, and ends the
// session when the node is leaving and nothing is open.
func (s *session) settleLocked() {
	if s.draining && len(s.given) == 0 {
		s.draining = false
		s.push(wire.AppendDrained)
	}
	if s.node.leaving && s.unanswered+len(s.given) == 0 {
		time.AfterFunc(linger, s.leave)
	}
}

// linger is how long a node that leaves waits for requests that crossed its
// leaving, so that it can turn them away.
const linger = 50 * time.Millisecond

func (s *session) leave() {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.unanswered+len(s.given) == 0 {
		s.push(func(b []byte) []byte { return wire.AppendBye(b, wire.CodeClosing, "the node is leaving") })
	}
}

// expire ends a request whose time is up.
func (n *Node) expire(r *request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.finish(r) {
		r.from.answer(wire.Reply{ID: r.fromID, Code: wire.CodeTimeout})
	}
}

// finish forgets a request; false if it was before.
func (n *Node) finish(r *request) bool {
	if n.relayed[r.id] != r {
		return false
	}
	delete(n.relayed, r.id)
	if r.timer != nil {
		r.timer.Stop()
	}
	return true
}

// reply hands a reply back; one that nobody waits for is ignored.
func (s *session) reply(content []byte) error {
	reply, err := wire.ParseReply(content)
	if err != nil {
		return err
	}
	if !s.given[reply.ID] {
		return nil
	}
	delete(s.given, reply.ID)
	if reply.Code != wire.CodeOK && reply.Code != wire.CodeFailed {
		return &wire.Error{Code: wire.CodeUnexpected, Clause: "5.4", Text: "a service replied " + reply.Code.String()}
	}
	if r := s.node.relayed[reply.ID]; r != nil && s.node.finish(r) {
		reply.ID = r.fromID
		r.from.answer(reply)
	}
	s.settleLocked()
	return nil
}

// cancel gives up a request of the session's own.
func (s *session) cancel(content []byte) error {
	id, err := wire.ParseCancel(content)
	if err != nil {
		return err
	}
	for _, r := range s.node.relayed {
		if r.from == s && r.fromID == id && s.node.finish(r) {
			r.to.cancelLocked(r)
			s.answer(wire.Reply{ID: id, Code: wire.CodeCancelled})
			return nil
		}
	}
	return nil
}

// cancelLocked tells a service that a request is given up. relay.md 5.8, 6.3.
func (s *session) cancelLocked(r *request) {
	s.push(func(b []byte) []byte { return wire.AppendCancel(b, r.id) })
	delete(s.given, r.id)
	s.settleLocked()
}

// withdraw takes the session out of its cluster.
func (s *session) withdraw() {
	members := s.node.clusters[s.cluster]
	s.node.clusters[s.cluster] = slices.DeleteFunc(members, func(m *session) bool { return m == s })
}

// gone fails what the program left unanswered and cancels what it asked.
func (s *session) gone() {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.flushLocked()
	delete(n.sessions, s)
	s.withdraw()
	for topic, subscribers := range n.topics {
		n.topics[topic] = slices.DeleteFunc(subscribers, func(o *session) bool { return o == s })
	}
	for _, e := range s.tunnels {
		e.peer.abort(wire.CodeLost, "")
	}
	for _, r := range n.relayed {
		if r.from == s && n.finish(r) {
			r.to.cancelLocked(r)
		} else if r.to == s && n.finish(r) {
			r.from.answer(wire.Reply{ID: r.fromID, Code: wire.CodeLost})
		}
	}
}
