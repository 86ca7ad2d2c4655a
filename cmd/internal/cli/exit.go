package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	iris "github.com/project-iris/iris/sdk"
)

// The exit codes of every command, as README lists them.
const (
	exitDone      = 0
	exitFailed    = 1 // the operation failed
	exitUsage     = 2
	exitNoNode    = 3 // no node at that port
	exitNoService = 4
	exitTimeout   = 5
	exitAuth      = 6 // key or authentication
)

// A usageError is a mistake on the command line.
type usageError struct{ text string }

// Error tells what is wrong.
func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// A keyError says what is wrong with the network key or its file, and the remedy.
type keyError struct{ err error }

// Error is that of the cause.
func (e *keyError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *keyError) Unwrap() error { return e.err }

// exitCode maps the outcome of a command to what the process exits with.
func exitCode(err error) int {
	var usage *usageError
	var key *keyError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &key):
		return exitAuth
	case errors.Is(err, iris.ErrNoNode):
		return exitNoNode
	case errors.Is(err, iris.ErrNoService):
		return exitNoService
	case errors.Is(err, iris.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// message is what a human reads about err: the service's own words when it is
// the service that failed.
func message(err error) string {
	var remote *iris.RemoteError
	if errors.As(err, &remote) {
		return remote.Message
	}
	return err.Error()
}
