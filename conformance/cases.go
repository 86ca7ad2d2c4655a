package conformance

import (
	"bytes"
	"slices"

	"github.com/project-iris/iris/spec/vectors"
)

// Cases lists all cases of mode relay.
func Cases() []Case {
	return slices.Concat(fromVectors(), opening(), requests(), services(), limits(), broadcasts(), topics(), tunnels(), tunnelEnds(), tunnelMistakes())
}

// fromVectors makes a case of every vector that a node has to notice.
func fromVectors() []Case {
	var cases []Case
	for _, v := range slices.Concat(vectors.Malformed(), vectors.Misplaced()) {
		if v.To == vectors.Client {
			continue
		}
		first := Step{Dial: true}
		switch {
		case v.State == "open" && v.Role == "service":
			first = attach(0, "vector")
		case v.State == "open":
			first = attach(0, "")
		}
		cases = append(cases, Case{v.Name, v.Clause, Must, []Step{first, {Raw: v.Hex}, end(0, v.Code)}})
	}
	for _, v := range vectors.Truncated() {
		cases = append(cases, Case{v.Name, v.Clause, Must, []Step{attach(0, ""), {Raw: v.Hex}, {Finish: true}, attach(1, ""), alive(1)}})
	}
	for _, v := range vectors.Frames() {
		if v.From != vectors.Client && v.From != vectors.Both || v.Op == "hello" || v.Op == "bye" || v.Op == "drain" {
			continue
		}
		// Whatever it asks for, a valid frame leaves the connection open.
		cases = append(cases, Case{"valid " + v.Name, v.Clause, Must, []Step{attach(0, "valid"), {Raw: v.Hex}, alive(0)}})
	}
	return cases
}

// opening are cases of relay.md 2.
func opening() []Case {
	hello := func(fields ...any) Step { return send(0, opHello, fields...) }
	dial := Step{Dial: true}
	return []Case{
		{"a client is welcomed", "2.6", Must, []Step{dial, hello("iris", 1, 1, "", none(), []any{}), expect(0, opWelcome, uint64(1), Any{}, Any{}, []any{}), alive(0)}},
		{"the greatest common version", "2.2", Must, []Step{dial, hello("iris", 1, 1000, "", none(), []any{}), expect(0, opWelcome, uint64(1)), alive(0)}},
		{"only newer versions", "2.2", Must, []Step{dial, hello("iris", 2, 9, "", none(), []any{}), end(0, "version")}},
		{"only older versions", "2.2", Must, []Step{dial, hello("iris", 0, 0, "", none(), []any{}), end(0, "version")}},
		{"an unknown option is ignored", "2.4", Must, []Step{dial, hello("iris", 1, 1, "", map[string]string{"colour": "blue"}, []any{}), expect(0, opWelcome, uint64(1)), alive(0)}},
		{"an unknown feature is not offered", "2.5", Must, []Step{dial, hello("iris", 1, 1, "", none(), []any{"telepathy"}), expect(0, opWelcome, uint64(1), Any{}, Any{}, []any{}), alive(0)}},
		{"a required feature that is unknown", "2.5", Must, []Step{dial, hello("iris", 1, 1, "", none(), []any{"!telepathy"}), end(0, "feature")}},
		{"a name of the node's own", "5.7", Must, []Step{dial, hello("iris", 1, 1, "$node", none(), []any{}), end(0, "name")}},
		{"a name that is too long", "2.3", Must, []Step{dial, hello("iris", 1, 1, string(bytes.Repeat([]byte("n"), 256)), none(), []any{}), end(0, "name")}},
		{"a request of the web", "3.1", Must, []Step{dial, {Raw: []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")}, end(0, "any")}},
		{"a hello of TLS", "3.1", Must, []Step{dial, {Raw: []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")}, end(0, "any")}},
		{"silence", "2.8", Must, []Step{dial, end(0, "handshake-timeout")}},
		{"half a hello", "2.8", Must, []Step{dial, {Raw: []byte{0xc4, 0x0c, 0x97, 0x00}}, end(0, "handshake-timeout")}},
	}
}

// requests are cases of a client alone.
func requests() []Case {
	ask := func(id uint64, name any, budget uint64) Step {
		return send(0, opRequest, id, name, budget, none(), []byte("?"))
	}
	return []Case{
		{"nobody serves", "5.4", Must, []Step{attach(0, ""), ask(1, Name("nobody"), noDeadline), expect(0, opReply, uint64(1), codes["no-service"]), alive(0)}},
		{"a name of the node that is unknown", "5.7", Must, []Step{attach(0, ""), ask(1, "$nothing", noDeadline), expect(0, opReply, uint64(1), codes["no-service"]), alive(0)}},
		{"no name", "5.1", Must, []Step{attach(0, ""), ask(1, "", noDeadline), expect(0, opReply, uint64(1), codes["invalid"]), alive(0)}},
		{"a budget of nothing", "5.2", Must, []Step{attach(1, "zero"), send(1, opCredit, 0, 9), alive(1), attach(0, ""), ask(1, Name("zero"), 0), expect(0, opReply, uint64(1), codes["timeout"]), alive(0)}},
		{"the greatest id", "5.1", Must, []Step{attach(0, ""), ask(1<<64-1, Name("nobody"), noDeadline), expect(0, opReply, uint64(1<<64-1), codes["no-service"]), alive(0)}},
		{"cancel of what is not there", "5.8", Must, []Step{attach(0, ""), send(0, opCancel, 77), alive(0)}},
		{"reply to what is not there", "5.4", Must, []Step{attach(0, ""), send(0, opReply, 77, 0, "", none(), []byte{}), alive(0)}},
		{"pong that nobody asked for", "6.2", Must, []Step{attach(0, ""), send(0, opPong, 77), alive(0)}},
		{"bye", "6.4", Must, []Step{attach(0, ""), send(0, opBye, 0, ""), end(0, "any")}},
		{"status of the node", "5.7", Must, []Step{attach(0, ""), send(0, opRequest, 1, "$node", noDeadline, none(), []byte("status")), expect(0, opReply, uint64(1), codes["ok"]), alive(0)}},
	}
}

// services are cases of a service (connection 0) and a client (1).
func services() []Case {
	const id = Ref("id")
	both := func(name string, steps ...Step) []Step {
		return append([]Step{attach(0, name), send(0, opCredit, 0, 9), alive(0), attach(1, "")}, steps...)
	}
	ask := func(number uint64, name string, budget uint64, payload string) Step {
		return send(1, opRequest, number, Name(name), budget, map[string]string{"trace": "7"}, []byte(payload))
	}
	given := func(name string, payload string) Step {
		return expect(0, opRequest, id, Name(name), noDeadline, map[string]any{"trace": "7"}, []byte(payload))
	}
	return []Case{
		{"request and reply", "5.4", Must, both("echo", ask(5, "echo", noDeadline, "ping"), given("echo", "ping"),
			send(0, opReply, id, 0, "", map[string]string{"a": "b"}, []byte("pong")), expect(1, opReply, uint64(5), uint64(0), "", map[string]any{"a": "b"}, []byte("pong")))},
		{"empty payloads", "5.4", Must, both("empty", ask(5, "empty", noDeadline, ""), given("empty", ""),
			send(0, opReply, id, 0, "", none(), []byte{}), expect(1, opReply, uint64(5), uint64(0), "", map[string]any{}, []byte{}))},
		{"an error with a text", "5.4", Must, both("error", ask(5, "error", noDeadline, "x"), given("error", "x"),
			send(0, opReply, id, 5, "naïve", none(), []byte{}), expect(1, opReply, uint64(5), codes["failed"], "naïve"))},
		{"an error without a text", "5.4", Must, both("mute", ask(5, "mute", noDeadline, "x"), given("mute", "x"),
			send(0, opReply, id, 5, "", none(), []byte{}), expect(1, opReply, uint64(5), codes["failed"], ""))},
		{"a code that is not the service's", "5.4", Must, both("liar", ask(5, "liar", noDeadline, "x"), given("liar", "x"),
			send(0, opReply, id, 2, "", none(), []byte{}), expect(1, opReply, uint64(5), codes["failed"]))},
		{"the budget travels and runs out", "5.2", Must, both("slow", ask(5, "slow", 300, "x"),
			expect(0, opRequest, id, Name("slow"), Between{1, 300}), expect(1, opReply, uint64(5), codes["timeout"]), expect(0, opCancel, id),
			send(0, opReply, id, 0, "", none(), []byte("late")), alive(0), alive(1))},
		{"cancel", "5.8", Must, both("cancel", ask(5, "cancel", noDeadline, "x"), given("cancel", "x"), send(1, opCancel, 5),
			expect(1, opReply, uint64(5), codes["cancelled"]), expect(0, opCancel, id), alive(0), alive(1))},
		{"a second reply is ignored", "5.4", Must, both("twice", ask(5, "twice", noDeadline, "x"), given("twice", "x"),
			send(0, opReply, id, 0, "", none(), []byte("1")), send(0, opReply, id, 0, "", none(), []byte("2")), expect(1, opReply, uint64(5), uint64(0), "", Any{}, []byte("1")), alive(1), alive(0))},
		{"an id is free again after its reply", "5.1", Must, both("again", ask(5, "again", noDeadline, "x"), given("again", "x"),
			send(0, opReply, id, 0, "", none(), []byte{}), expect(1, opReply, uint64(5), uint64(0)),
			ask(5, "again", noDeadline, "y"), expect(0, opRequest, Ref("next"), Name("again")), send(0, opReply, Ref("next"), 0, "", none(), []byte{}), expect(1, opReply, uint64(5), uint64(0)))},
		{"an id in use", "5.1", Must, both("reuse", ask(5, "reuse", noDeadline, "x"), given("reuse", "x"), ask(5, "reuse", noDeadline, "y"), end(1, "unexpected"), expect(0, opCancel, id), alive(0))},
		{"no request without credit", "5.5", Must, []Step{attach(0, "poor"), attach(1, ""), ask(5, "poor", noDeadline, "x"), expect(1, opReply, uint64(5), codes["overloaded"]), alive(0)}},
		{"a service that goes away", "6.6", Must, both("dead", ask(5, "dead", noDeadline, "x"), given("dead", "x"), Step{On: 0, Finish: true}, expect(1, opReply, uint64(5), codes["lost"]), alive(1))},
		{"drain with nothing running", "6.3", Must, both("drain", send(0, opDrain), expect(0, opDrained), ask(5, "drain", noDeadline, "x"), expect(1, opReply, uint64(5), codes["no-service"]), alive(0))},
		{"drain with one running", "6.3", Must, both("busy", ask(5, "busy", noDeadline, "x"), given("busy", "x"), send(0, opDrain), alive(0),
			send(0, opReply, id, 0, "", none(), []byte{}), expect(1, opReply, uint64(5), uint64(0)), expect(0, opDrained))},
		{"a drained service is a client", "6.3", Must, both("client", send(0, opDrain), expect(0, opDrained),
			send(0, opRequest, 1, Name("client"), noDeadline, none(), []byte{}), expect(0, opReply, uint64(1), codes["no-service"]))},
	}
}

// limits are cases of relay.md 4, for an endpoint with the default limits.
func limits() []Case {
	ask := func(payload int, name any, headers map[string]string) Step {
		return send(0, opRequest, 1, name, noDeadline, headers, make([]byte, payload))
	}
	refused := func(code string) Step { return expect(0, opReply, uint64(1), codes[code]) }
	return []Case{
		{"the greatest payload", "4.1", Must, []Step{attach(0, ""), ask(1_048_576, Name("nobody"), none()), refused("no-service"), alive(0)}},
		{"a byte more", "4.3", Must, []Step{attach(0, ""), ask(1_048_577, Name("nobody"), none()), refused("invalid"), alive(0)}},
		{"headers that are too large", "4.3", Must, []Step{attach(0, ""), ask(1, Name("nobody"), map[string]string{"h": string(make([]byte, 16_384))}), refused("invalid"), alive(0)}},
		{"the name of a request that is too long", "4.3", Must, []Step{attach(0, ""), ask(1, string(bytes.Repeat([]byte("n"), 256)), none()), refused("invalid"), alive(0)}},
	}
}
