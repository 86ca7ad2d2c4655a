package iris

import (
	"context"
	"errors"
	"fmt"

	"github.com/project-iris/iris/spec/wire"
)

// Errors to branch on with errors.Is. What the functions of this package return
// wraps them with what was attempted.
var (
	// ErrNoNode: nothing listens at the port, or nothing does any more.
	ErrNoNode = errors.New("no iris node")
	// ErrRefused: the node does not let this program attach; the text has its reason.
	ErrRefused = errors.New("the node refused")
	// ErrProtocol: the node sent what the relay protocol does not allow.
	ErrProtocol = errors.New("the node broke the protocol")
	// ErrClosed: this side closed the connection, or it was given up.
	ErrClosed = errors.New("connection closed")
	// ErrNoService: nobody is registered under the name.
	ErrNoService = errors.New("no such service")
	// ErrTimeout: the deadline passed. Such an error is context.DeadlineExceeded too.
	ErrTimeout = errors.New("timed out")
	// ErrCancelled: the context was cancelled. Such an error is context.Canceled too.
	ErrCancelled = errors.New("cancelled")
	// ErrOverloaded: no member of the cluster would take the request; it was not executed.
	ErrOverloaded = errors.New("the service is overloaded")
	// ErrLost: the node or the member is gone; the request may or may not have been executed.
	ErrLost = errors.New("the connection or the service was lost")
	// ErrTooLarge: a payload, headers or a name exceed a limit of the node; nothing was sent.
	ErrTooLarge = errors.New("too large")
	// ErrInvalid: the request breaks a rule of the node, such as an empty name; it was not executed.
	ErrInvalid = errors.New("invalid request")
)

// A RemoteError is the other application's own error: what a service's handler
// returned, or the reason with which the other side of a tunnel aborted it.
type RemoteError struct {
	Message string // exactly the other application's; may be empty

	aborted bool // a tunnel: either side may have
}

// Error gives the message, and what the other application did.
func (e *RemoteError) Error() string {
	what := "the service failed"
	if e.aborted {
		what = "aborted"
	}
	if e.Message == "" {
		return what + " without a message"
	}
	return what + ": " + e.Message
}

// A failure is an error that two things can be said about: cause is what its
// text tells, and also a second one that errors.Is finds.
type failure struct {
	attempt     string
	cause, also error
}

// Error tells the attempt and the cause.
func (f *failure) Error() string { return "iris: " + f.attempt + ": " + f.cause.Error() }

// Unwrap yields both.
func (f *failure) Unwrap() []error { return []error{f.cause, f.also} }

// contextFailure types the end of a context.
func contextFailure(attempt string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{attempt, ErrTimeout, context.DeadlineExceeded}
	}
	return &failure{attempt, ErrCancelled, context.Canceled}
}

// wrap tells what was attempted. A bare error of a context is that of the
// caller's own, and is typed.
func wrap(attempt string, err error) error {
	if err == context.DeadlineExceeded || err == context.Canceled {
		return contextFailure(attempt, err)
	}
	return fmt.Errorf("iris: %s: %w", attempt, err)
}

// outcome types a reply that is not a success.
func outcome(attempt string, code wire.Code, text string) error {
	cause := ErrLost // also of codes that are not known: relay.md 7.2
	switch code {
	case wire.CodeFailed:
		return fmt.Errorf("iris: %s: %w", attempt, &RemoteError{Message: text})
	case wire.CodeTimeout:
		return contextFailure(attempt, context.DeadlineExceeded)
	case wire.CodeCancelled:
		return contextFailure(attempt, context.Canceled)
	case wire.CodeNoService:
		cause = ErrNoService
	case wire.CodeOverloaded, wire.CodeClosing: // neither was executed
		cause = ErrOverloaded
	case wire.CodeInvalid:
		cause = ErrInvalid
	}
	if text != "" {
		return fmt.Errorf("iris: %s: %w (%s)", attempt, cause, text)
	}
	return fmt.Errorf("iris: %s: %w", attempt, cause)
}
