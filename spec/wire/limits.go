package wire

import (
	"bytes"
	"fmt"
	"math"
	"unicode/utf8"
)

// HandshakeFrame is the greatest content of a hello, a welcome and a refuse in
// bytes: what a Reader allows until the limits are agreed. relay.md 2.4.
const HandshakeFrame = 16_384

// MaxText is the greatest length of a text in bytes. relay.md 5.6.
const MaxText = 16_384

// MaxCredit is the most credit of a kind, and the most bytes of a tunnel, that
// may be outstanding. relay.md 5.5, 10.5.
const MaxCredit = math.MaxInt32

// overhead is what a message's content takes besides its variable fields.
const overhead = 64

// Limits bound what either side may send. The node tells them in its welcome
// under the names of relay.md 4.1.
type Limits struct {
	Frame    uint64 // bytes of a frame's content
	Payload  uint64 // bytes of a payload
	Headers  uint64 // bytes of encoded headers
	Name     uint64 // bytes of a cluster name or a topic
	Requests uint64 // unanswered requests of one connection
	Topics   uint64 // subscriptions of one connection
	Tunnels  uint64 // open tunnels of one connection
	Chunk    uint64 // bytes of a data frame's payload
}

// DefaultLimits are the limits of relay.md 4.1.
func DefaultLimits() Limits {
	return Limits{
		Frame: 1_114_112, Payload: 1_048_576, Headers: 16_384, Name: 255,
		Requests: 4_096, Topics: 65_536, Tunnels: 16_384, Chunk: 65_536,
	}
}

// Validate tells whether the greatest messages that the other limits allow fit
// the limit of a frame, so that no message can break that one alone.
func (l Limits) Validate() error {
	const absurd = math.MaxUint32 // also keeps the sum from overflowing
	if max(l.Payload, l.Headers, l.Name, l.Chunk, l.Frame) > absurd {
		return fmt.Errorf("wire: limits %+v: none may exceed %d", l, uint32(absurd))
	}
	if min(l.Name, l.Requests, l.Topics, l.Tunnels, l.Chunk) == 0 { // on the wire, zero is the default
		return fmt.Errorf("wire: limits %+v: name, requests, topics, tunnels and chunk must be at least 1", l)
	}
	if need := max(l.Payload+l.Headers+max(l.Name, MaxText), l.Chunk) + overhead; l.Frame < need {
		return fmt.Errorf("wire: limits %+v: frame must be at least %d for what the others allow", l, need)
	}
	return nil
}

// CheckRequest tells whether a request keeps what relay.md 4 and 5 demand of
// it. What it returns is an *Error of CodeInvalid: only this request fails, the
// connection goes on. An SDK asks before it sends, a relay after it parsed.
func (l Limits) CheckRequest(r Request) error {
	if err := l.CheckName(r.Cluster); err != nil {
		return err
	}
	return l.checkBody(r.Headers, r.Payload)
}

// CheckReply does for a reply what CheckRequest does for a request. A node that
// gets a reply which breaks a limit passes on `failed` instead: relay.md 4.4.
func (l Limits) CheckReply(r Reply) error {
	if len(r.Text) > MaxText {
		return invalid("5.6", fmt.Sprintf("the text exceeds %d bytes", MaxText))
	}
	return l.checkBody(r.Headers, r.Payload)
}

// CheckBroadcast does for a broadcast what CheckRequest does for a request.
func (l Limits) CheckBroadcast(m Broadcast) error {
	if err := l.CheckName(m.Cluster); err != nil {
		return err
	}
	return l.checkBody(m.Headers, m.Payload)
}

// CheckPublish does for a publish what CheckRequest does for a request.
func (l Limits) CheckPublish(m Publish) error {
	if err := l.CheckTopic(m.Topic); err != nil {
		return err
	}
	return l.checkBody(m.Headers, m.Payload)
}

// CheckOpen tells whether a client may open the tunnel o. An *Error of
// CodeInvalid ends only this tunnel; one of CodeUnexpected, for an id that is
// the node's to choose or a window beyond MaxCredit, the connection.
func (l Limits) CheckOpen(o Open) error {
	if o.ID&NodeTunnel != 0 {
		return &Error{CodeUnexpected, "10.1", "the highest bit of an id is the node's"}
	}
	if _, err := AddAllowance(0, o.Window); err != nil {
		return err
	}
	if err := l.CheckName(o.Cluster); err != nil {
		return err
	}
	return l.checkBody(o.Headers, nil)
}

// CheckOpened does for an opened what CheckOpen does for an open.
func (l Limits) CheckOpened(o Opened) error {
	if _, err := AddAllowance(0, o.Window); err != nil {
		return err
	}
	return l.checkBody(o.Headers, nil)
}

// CheckChunk tells whether a chunk of a tunnel's message is within the limit.
// The error is an *Error of CodeInvalid, which ends only the tunnel.
func (l Limits) CheckChunk(d Data) error {
	if uint64(len(d.Payload)) > l.Chunk {
		return invalid("10.4", fmt.Sprintf("the chunk exceeds the limit of %d bytes", l.Chunk))
	}
	return nil
}

// CheckName tells whether a name is one that a cluster may have: not empty,
// UTF-8, within the limit. The error is an *Error of CodeInvalid.
func (l Limits) CheckName(name []byte) error { return l.checkName("cluster name", "5.1", name) }

// CheckTopic tells whether a name is one that a topic may have: as CheckName.
func (l Limits) CheckTopic(name []byte) error { return l.checkName("topic", "9.1", name) }

func (l Limits) checkName(what, clause string, name []byte) error {
	switch {
	case len(name) == 0:
		return invalid(clause, "the "+what+" is empty")
	case uint64(len(name)) > l.Name:
		return invalid("4.1", fmt.Sprintf("the %s exceeds the limit of %d bytes", what, l.Name))
	case !utf8.Valid(name):
		return invalid(clause, "the "+what+" is not UTF-8")
	}
	return nil
}

// CheckUnanswered tells whether a connection with n unanswered requests may
// have one more. The error is an *Error of CodeOverloaded.
func (l Limits) CheckUnanswered(n int) error { return oneMore(n, l.Requests, "unanswered requests") }

// CheckSubscriptions tells whether a connection with n subscriptions may have
// one more. The error is an *Error of CodeOverloaded.
func (l Limits) CheckSubscriptions(n int) error { return oneMore(n, l.Topics, "subscriptions") }

// CheckTunnels tells whether a connection with n open tunnels, of whichever
// side, may have one more. The error is an *Error of CodeOverloaded.
func (l Limits) CheckTunnels(n int) error { return oneMore(n, l.Tunnels, "open tunnels") }

// oneMore tells whether one more than n is within a limit.
func oneMore(n int, limit uint64, what string) error {
	if uint64(n) >= limit {
		return &Error{CodeOverloaded, "4.1", fmt.Sprintf("the limit of %d %s is reached", limit, what)}
	}
	return nil
}

func (l Limits) checkBody(h Headers, payload []byte) error {
	switch {
	case uint64(len(payload)) > l.Payload:
		return invalid("4.1", fmt.Sprintf("the payload exceeds the limit of %d bytes", l.Payload))
	case uint64(len(h)) > l.Headers:
		return invalid("4.1", fmt.Sprintf("the headers exceed the limit of %d bytes", l.Headers))
	case h.Len() > MaxHeaders:
		return invalid("5.3", fmt.Sprintf("there are more than %d headers", MaxHeaders))
	}
	return nil
}

// Reserved tells whether a name is one of the node's own, which nobody can
// register. relay.md 5.7.
func Reserved(name []byte) bool { return len(name) > 0 && name[0] == '$' }

// AddCredit adds a grant of n to the credit that is outstanding. Beyond
// MaxCredit it is an *Error that ends the connection. relay.md 5.5.
func AddCredit(outstanding, n uint32) (uint32, error) { return grant(outstanding, n, "5.5", "credit") }

// AddAllowance adds the n of an allow, or the window of an open or opened, to
// the bytes that are outstanding. It fails as AddCredit does. relay.md 10.5.
func AddAllowance(outstanding, n uint32) (uint32, error) {
	return grant(outstanding, n, "10.5", "allowance")
}

func grant(outstanding, n uint32, clause, what string) (uint32, error) {
	if sum := uint64(outstanding) + uint64(n); sum <= MaxCredit {
		return uint32(sum), nil
	}
	return outstanding, &Error{CodeUnexpected, clause, what + " beyond 2^31-1"}
}

// Text makes of s what relay.md 5.6 allows: UTF-8 of at most MaxText bytes. It
// copies only where it must change something.
func Text(s []byte) []byte {
	if len(s) > MaxText {
		end := MaxText
		for i := range utf8.UTFMax { // do not cut within a character
			if utf8.RuneStart(s[MaxText-i]) {
				end = MaxText - i
				break
			}
		}
		s = s[:end]
	}
	if utf8.Valid(s) {
		return s
	}
	s = bytes.ToValidUTF8(s, []byte("?"))
	return s
}

// limits reads the limits of a welcome. One that is missing or zero is the
// default: relay.md 4.1.
func (p *parser) limits() Limits {
	l := DefaultLimits()
	n := p.pairs()
	if n > maxEntries {
		p.fail("2.4", "too many entries")
		return l
	}
	for range n {
		name, v := p.str(), p.uint()
		if v == 0 {
			continue
		}
		switch string(name) {
		case "frame":
			l.Frame = v
		case "payload":
			l.Payload = v
		case "headers":
			l.Headers = v
		case "name":
			l.Name = v
		case "requests":
			l.Requests = v
		case "topics":
			l.Topics = v
		case "tunnels":
			l.Tunnels = v
		case "chunk":
			l.Chunk = v
		}
	}
	return l
}

func appendLimits(b []byte, l Limits) []byte {
	b = appendMapLen(b, 8)
	b = appendUint(appendStr(b, "chunk"), l.Chunk)
	b = appendUint(appendStr(b, "frame"), l.Frame)
	b = appendUint(appendStr(b, "headers"), l.Headers)
	b = appendUint(appendStr(b, "name"), l.Name)
	b = appendUint(appendStr(b, "payload"), l.Payload)
	b = appendUint(appendStr(b, "requests"), l.Requests)
	b = appendUint(appendStr(b, "topics"), l.Topics)
	return appendUint(appendStr(b, "tunnels"), l.Tunnels)
}
