package wire

import "fmt"

// Code says how an operation or a connection ended: the closed list of
// relay.md 7.
type Code uint8

// The codes of relay.md 7.
const (
	CodeOK         Code = 0
	CodeTimeout    Code = 1 // the budget ran out
	CodeNoService  Code = 2 // nobody is registered under the name
	CodeOverloaded Code = 3 // no member would take it; it was not executed
	CodeLost       Code = 4 // the member is gone; it may or may not have been executed
	CodeFailed     Code = 5 // the service's own error; the text is its
	CodeCancelled  Code = 6 // the requester gave up
	CodeClosing    Code = 7 // the node or the connection is closing; it was not executed
	CodeInvalid    Code = 8 // the operation breaks a rule; the connection goes on

	CodeVersion  Code = 16 // refusal: no common version
	CodeFeature  Code = 17 // refusal: a required feature is not offered
	CodeName     Code = 18 // refusal: the cluster name is not allowed
	CodeLimit    Code = 19 // refusal: too many connections
	CodeNotReady Code = 20 // refusal: the node is starting or leaving

	CodeMalformed        Code = 32 // a frame is not what relay.md 3 says
	CodeTooLarge         Code = 33 // a frame exceeds the limit
	CodeUnexpected       Code = 34 // a frame is not allowed now
	CodeHandshakeTimeout Code = 35 // no hello in time
	CodeUnresponsive     Code = 36 // no pong, or nothing is read
)

var codeNames = map[Code]string{
	CodeOK: "ok", CodeTimeout: "timeout", CodeNoService: "no-service", CodeOverloaded: "overloaded",
	CodeLost: "lost", CodeFailed: "failed", CodeCancelled: "cancelled", CodeClosing: "closing",
	CodeInvalid: "invalid", CodeVersion: "version", CodeFeature: "feature", CodeName: "name",
	CodeLimit: "limit", CodeNotReady: "not-ready", CodeMalformed: "malformed", CodeTooLarge: "too-large",
	CodeUnexpected: "unexpected", CodeHandshakeTimeout: "handshake-timeout", CodeUnresponsive: "unresponsive",
}

// String names the code as relay.md does.
func (c Code) String() string {
	if name, known := codeNames[c]; known {
		return name
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// AsReason is the code that one of a refuse or a bye is treated like: itself, if it
// is listed. relay.md 7.2.
func (c Code) AsReason() Code {
	switch _, known := codeNames[c]; {
	case known:
		return c
	case c >= CodeVersion && c < CodeMalformed:
		return CodeNotReady
	}
	return CodeMalformed
}

// An Error says which clause of relay.md a frame or an operation breaks, and
// how. One of a code from 32 on ends the connection, with a bye of its Code:
// relay.md 6.4. One of a code below 16 is the outcome of a single operation.
type Error struct {
	Code   Code
	Clause string // of relay.md; may be empty
	Text   string
}

// Error gives the code, the clause and what was found.
func (e *Error) Error() string {
	if e.Clause == "" {
		return fmt.Sprintf("wire: %s: %s", e.Code, e.Text)
	}
	return fmt.Sprintf("wire: %s: %s (relay.md %s)", e.Code, e.Text, e.Clause)
}

func malformed(clause, text string) error { return &Error{CodeMalformed, clause, text} }

func invalid(clause, text string) error { return &Error{CodeInvalid, clause, text} }
