// Package conformance judges whether an endpoint speaks the relay protocol of
// spec/relay.md. It plays cases, each a script of frames and raw bytes with what
// must come back, against a live endpoint, and shares no code with the relay or
// the sdk. A Suite is for one run at a time.
package conformance

import (
	"fmt"
	"strings"
)

// A Level is how binding the clause behind a case is.
type Level string

// The levels of relay.md.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
)

// A Case is a script that proves one clause.
type Case struct {
	Name   string `json:"name"`
	Clause string `json:"clause"` // of relay.md
	Level  Level  `json:"level"`
	Steps  []Step `json:"-"`
}

// ID names the case: RELAY-<clause>/<name>.
func (c Case) ID() string {
	return fmt.Sprintf("RELAY-%s/%s", c.Clause, strings.ReplaceAll(c.Name, " ", "-"))
}

// A Step is one thing that is done or awaited on a connection. Exactly one of
// its fields besides On is set.
type Step struct {
	On     int    // number of the connection, from 0
	Attach *Hello // open the connection and be welcomed
	Dial   bool   // open the connection and say nothing
	Send   *Frame // send a frame
	Raw    []byte // send bytes as they are
	Expect *Frame // this frame must come next
	End    string // a refuse or bye of this code must come, then the end; "any": an end, with or without them
	Alive  bool   // a ping must be answered
	Finish bool   // close the connection
}

// A Hello opens a connection. The cluster name is made unique for each run.
type Hello struct{ Cluster string }

// A Frame is an op and its fields. In a frame to send, a Ref is replaced by the
// value of that name. In one to expect, Any matches everything, a Ref that has
// no value yet takes the field's, Between matches integers; fields beyond those
// given are not looked at.
type Frame struct {
	Op     byte
	Fields []any
}

// A Ref names a value of the script.
type Ref string

// A Name stands for the name of a cluster or a topic that a run made of it.
type Name string

// Any matches every field.
type Any struct{}

// Between matches integers from Low to High.
type Between struct{ Low, High uint64 }

// The ops of relay.md 3.2.
const (
	opHello       = 0x00
	opWelcome     = 0x01
	opRefuse      = 0x02
	opPing        = 0x03
	opPong        = 0x04
	opCredit      = 0x05
	opDrain       = 0x06
	opDrained     = 0x07
	opBye         = 0x09
	opDone        = 0x0a
	opRequest     = 0x10
	opReply       = 0x11
	opCancel      = 0x12
	opBroadcast   = 0x20
	opPublish     = 0x21
	opSubscribe   = 0x22
	opUnsubscribe = 0x23
	opEvent       = 0x24
	opOpen        = 0x30
	opOpened      = 0x31
	opData        = 0x32
	opAllow       = 0x33
	opFinish      = 0x34
	opAbort       = 0x35
)

// codes are the codes of relay.md 7.1 by their names.
var codes = map[string]uint64{
	"ok": 0, "timeout": 1, "no-service": 2, "overloaded": 3, "lost": 4, "failed": 5, "cancelled": 6, "closing": 7, "invalid": 8,
	"version": 16, "feature": 17, "name": 18, "limit": 19, "not-ready": 20,
	"malformed": 32, "too-large": 33, "unexpected": 34, "handshake-timeout": 35, "unresponsive": 36,
}

// noDeadline is the budget that never runs out. relay.md 5.2.
const noDeadline = uint64(1<<32 - 1)

// none are no headers.
func none() map[string]string { return nil }

func send(on int, op byte, fields ...any) Step   { return Step{On: on, Send: &Frame{op, fields}} }
func expect(on int, op byte, fields ...any) Step { return Step{On: on, Expect: &Frame{op, fields}} }
func attach(on int, cluster string) Step         { return Step{On: on, Attach: &Hello{cluster}} }
func alive(on int) Step                          { return Step{On: on, Alive: true} }
func end(on int, code string) Step               { return Step{On: on, End: code} }

// quiet proves that nothing is on its way to a connection: the answer to a ping
// comes next.
func quiet(on int) []Step {
	return []Step{send(on, opPing, uint64(0xcafe)), expect(on, opPong, uint64(0xcafe))}
}

// script joins steps and lists of steps.
func script(parts ...any) []Step {
	var steps []Step
	for _, part := range parts {
		switch part := part.(type) {
		case Step:
			steps = append(steps, part)
		case []Step:
			steps = append(steps, part...)
		default:
			panic(fmt.Sprintf("conformance: a script holds a %T", part))
		}
	}
	return steps
}
