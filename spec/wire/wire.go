// Package wire is the codec of the relay protocol, spec/relay.md: the frames
// that an application and the node on its own host exchange.
//
// A frame is one MessagePack bin whose content is one MessagePack array:
//
//	+------+--------+-------+----+---------+-----+
//	| bin  | length | array | op | field 1 |  …  |
//	| c4   | 1 B    |       |    |         |     |
//	| c5   | 2 B    |       |    |         |     |
//	| c6   | 4 B    |       |    |         |     |
//	+------+--------+-------+----+---------+-----+
//
// Encoders append whole frames to a slice; parsers work in place on a frame's
// content, and what they return aliases it. Both allocate nothing for the
// frames of the hot path. Every length is checked against what is left before
// it is used. All functions are safe for concurrent use, and so is an Output; a
// Reader is not.
package wire

import "math"

// Magic opens every hello. relay.md 2.1.
const Magic = "iris"

// Version is the protocol version that this package speaks. relay.md 2.2.
const Version = 1

// NoDeadline is the budget of a request that may take for ever. relay.md 5.2.
const NoDeadline = math.MaxUint32

// The kinds of credit of relay.md 5.5, by what uses them up.
const (
	KindRequest   = 0 // requests; of services only
	KindBroadcast = 1 // broadcasts; of services only
	KindEvent     = 2 // events
)

// Op says what a frame is. relay.md 3.
type Op uint8

// The ops of relay.md 3.
const (
	OpHello       Op = 0x00
	OpWelcome     Op = 0x01
	OpRefuse      Op = 0x02
	OpPing        Op = 0x03
	OpPong        Op = 0x04
	OpCredit      Op = 0x05
	OpDrain       Op = 0x06
	OpDrained     Op = 0x07
	OpLeaving     Op = 0x08
	OpBye         Op = 0x09
	OpDone        Op = 0x0a
	OpRequest     Op = 0x10
	OpReply       Op = 0x11
	OpCancel      Op = 0x12
	OpBroadcast   Op = 0x20
	OpPublish     Op = 0x21
	OpSubscribe   Op = 0x22
	OpUnsubscribe Op = 0x23
	OpEvent       Op = 0x24
	OpOpen        Op = 0x30
	OpOpened      Op = 0x31
	OpData        Op = 0x32
	OpAllow       Op = 0x33
	OpFinish      Op = 0x34
	OpAbort       Op = 0x35
)

// String names the op as relay.md does.
func (o Op) String() string {
	if o.known() {
		return opNames[o]
	}
	return "unknown"
}

func (o Op) known() bool { return int(o) < len(opNames) && opNames[o] != "" }

var opNames = [...]string{
	OpHello: "hello", OpWelcome: "welcome", OpRefuse: "refuse", OpPing: "ping", OpPong: "pong",
	OpCredit: "credit", OpDrain: "drain", OpDrained: "drained", OpLeaving: "leaving", OpBye: "bye",
	OpDone: "done", OpRequest: "request", OpReply: "reply", OpCancel: "cancel",
	OpBroadcast: "broadcast", OpPublish: "publish", OpSubscribe: "subscribe", OpUnsubscribe: "unsubscribe", OpEvent: "event",
	OpOpen: "open", OpOpened: "opened", OpData: "data", OpAllow: "allow", OpFinish: "finish", OpAbort: "abort",
}
