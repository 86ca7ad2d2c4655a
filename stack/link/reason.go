package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"
)

// Reason is the QUIC application error code that a link was closed with, or a
// stream aborted.
type Reason uint64

// The reasons that links are closed for. Other values are for the layers above
// to define, from ReasonUser on.
const (
	ReasonNone      Reason = 0  // none was given
	ReasonLeaving   Reason = 1  // the node ends
	ReasonDuplicate Reason = 2  // another connection is the pair's link
	ReasonProtocol  Reason = 3  // the peer broke the rules of links
	ReasonVersion   Reason = 4  // the peer speaks a version that is not spoken here
	ReasonOverflow  Reason = 5  // the peer does not read its control stream
	ReasonSilent    Reason = 6  // nothing was heard from the peer for too long
	ReasonRefused   Reason = 7  // of a stream: the peer does not take it
	ReasonKey       Reason = 8  // the key that the peer's certificate is signed with is not accepted any more
	ReasonIdle      Reason = 9  // nobody uses it
	ReasonUser      Reason = 64 // the first that link gives no meaning
)

// Error names the reason.
func (r Reason) Error() string {
	names := [...]string{"no reason", "leaving", "duplicate", "protocol violated", "unknown version", "control stream not read", "silent", "refused", "key removed", "not used"}
	if r < Reason(len(names)) {
		return names[r]
	}
	return fmt.Sprintf("reason %d", uint64(r))
}

// What Send and SendControl return. Nothing was sent then.
var (
	ErrFull     = errors.New("link: lane is full")
	ErrClosed   = errors.New("link: closed")
	ErrTooLarge = errors.New("link: message is larger than the peer accepts")
)

// Ways in which a link ends that nobody chose; Down gets errors that wrap them.
var (
	ErrIdle  = errors.New("nothing heard from the peer")
	ErrReset = errors.New("the peer does not know the link: it has restarted")
)

// A RemoteError tells that the peer closed the link or turned it away.
type RemoteError struct{ Reason Reason }

// Error names the reason.
func (e *RemoteError) Error() string { return "closed by the peer: " + e.Reason.Error() }

// Unwrap gives the reason.
func (e *RemoteError) Unwrap() error { return e.Reason }

// A LocalError tells that this node closed the link or turned it away.
type LocalError struct{ Reason Reason }

// Error names the reason.
func (e *LocalError) Error() string { return "closed by this node: " + e.Reason.Error() }

// Unwrap gives the reason.
func (e *LocalError) Unwrap() error { return e.Reason }

// A RefusedError tells that a handshake failed because the other side is not who
// it should be, or did not accept who this node is.
type RefusedError struct {
	Word   string // the counter in Refused: a short stable word
	Detail string
}

// Error gives the detail and the word.
func (e *RefusedError) Error() string { return e.Detail + " (" + e.Word + ")" }

// known turns an error of QUIC into the error of this package for it, nil if
// there is none.
func known(err error) error {
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		return refused
	}
	if app := (*quic.ApplicationError)(nil); errors.As(err, &app) {
		if app.Remote {
			return &RemoteError{Reason(app.ErrorCode)}
		}
		return &LocalError{Reason(app.ErrorCode)}
	}
	if te := (*quic.TransportError)(nil); errors.As(err, &te) && te.Remote && te.ErrorCode.IsCryptoError() {
		return &RefusedError{refusedByPeer, "the peer does not accept this node: its network key or name is another"}
	}
	if idle := (*quic.IdleTimeoutError)(nil); errors.As(err, &idle) {
		return ErrIdle
	}
	if reset := (*quic.StatelessResetError)(nil); errors.As(err, &reset) {
		return ErrReset
	}
	return nil
}

// explain gives the error of this package for err, or err itself.
func explain(err error) error {
	if e := known(err); e != nil {
		return e
	}
	return err
}

// causeOf tells why a connection ended.
func causeOf(q *quic.Conn) error { return explain(context.Cause(q.Context())) }
