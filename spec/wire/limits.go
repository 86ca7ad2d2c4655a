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

// MaxCredit is the most credit of a kind that may be outstanding. relay.md 5.5.
const MaxCredit = math.MaxInt32

// overhead is what a message's content takes besides its variable fields.
const overhead = 64

// Limits bound what either side may send. The node tells them in its welcome
// under the names of relay.md 4.1.
type Limits struct {
	Frame    uint64 // bytes of a frame's content
	Payload  uint64 // bytes of a payload
	Headers  uint64 // bytes of encoded headers
	Name     uint64 // bytes of a cluster name
	Requests uint64 // unanswered requests of one connection
}

// DefaultLimits are the limits of relay.md 4.1.
func DefaultLimits() Limits {
	return Limits{Frame: 1_114_112, Payload: 1_048_576, Headers: 16_384, Name: 255, Requests: 4_096}
}

// Validate tells whether the greatest messages that the other limits allow fit
// the limit of a frame, so that no message can break that one alone.
func (l Limits) Validate() error {
	const absurd = math.MaxUint32 // also keeps the sum from overflowing
	if l.Payload > absurd || l.Headers > absurd || l.Name > absurd || l.Frame > absurd {
		return fmt.Errorf("wire: limits %+v: none may exceed %d", l, uint32(absurd))
	}
	if l.Name == 0 || l.Requests == 0 {
		return fmt.Errorf("wire: limits %+v: name and requests must be at least 1", l)
	}
	if need := l.Payload + l.Headers + max(l.Name, MaxText) + overhead; l.Frame < need {
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

// CheckName tells whether a name is one that a request may be sent to: not
// empty, UTF-8, within the limit. The error is an *Error of CodeInvalid.
func (l Limits) CheckName(name []byte) error {
	switch {
	case len(name) == 0:
		return invalid("5.1", "the cluster name is empty")
	case uint64(len(name)) > l.Name:
		return invalid("4.1", fmt.Sprintf("the cluster name exceeds the limit of %d bytes", l.Name))
	case !utf8.Valid(name):
		return invalid("5.1", "the cluster name is not UTF-8")
	}
	return nil
}

// CheckUnanswered tells whether a connection with n unanswered requests may
// have one more. The error is an *Error of CodeOverloaded.
func (l Limits) CheckUnanswered(n int) error {
	if uint64(n) >= l.Requests {
		return &Error{CodeOverloaded, "4.1", fmt.Sprintf("the limit of %d unanswered requests is reached", l.Requests)}
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
func AddCredit(outstanding, n uint32) (uint32, error) {
	if sum := uint64(outstanding) + uint64(n); sum <= MaxCredit {
		return uint32(sum), nil
	}
	return outstanding, &Error{CodeUnexpected, "5.5", "credit beyond 2^31-1"}
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
		}
	}
	return l
}

func appendLimits(b []byte, l Limits) []byte {
	b = appendMapLen(b, 5)
	b = appendUint(appendStr(b, "frame"), l.Frame)
	b = appendUint(appendStr(b, "payload"), l.Payload)
	b = appendUint(appendStr(b, "headers"), l.Headers)
	b = appendUint(appendStr(b, "name"), l.Name)
	return appendUint(appendStr(b, "requests"), l.Requests)
}
