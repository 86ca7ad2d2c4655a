package patterns

import "fmt"

// Code is the outcome of a request. The numbers are those of relay.md 7.
type Code uint8

// The outcomes of a request.
const (
	CodeOK         Code = 0
	CodeTimeout    Code = 1 // its budget ran out; it may or may not have been executed
	CodeNoService  Code = 2 // nobody serves the cluster; not executed
	CodeOverloaded Code = 3 // no member would take it; not executed
	CodeLost       Code = 4 // the member is gone; it may or may not have been executed
	CodeFailed     Code = 5 // the service's own error
	CodeCancelled  Code = 6 // the requester gave up; it may or may not have been executed
	CodeClosing    Code = 7 // the service closes; not executed
	CodeInvalid    Code = 8 // the request breaks a rule; not executed
)

// String names the code as relay.md does.
func (c Code) String() string {
	names := [...]string{"ok", "timeout", "no-service", "overloaded", "lost", "failed", "cancelled", "closing", "invalid"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// A reason is why a node refuses a request.
type reason uint8

const (
	reasonOverloaded reason = 1 // no member has credit
	reasonDraining   reason = 2 // the node takes nothing new
	reasonNoMember   reason = 3 // none on this node
)
