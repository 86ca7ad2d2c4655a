package conformance

import (
	"bytes"
	"fmt"
)

// The tunnels of the cases are between a client (connection 1), whose id for it
// is asked, and a service (0), for which it is Ref("id").
const (
	asked   = uint64(6)
	offered = Ref("id")
)

// attached is a service and a client.
func attached(name string) []Step { return script(attach(0, name), alive(0), attach(1, "")) }

// asking is a tunnel that the service has been offered.
func asking(name string) []Step {
	return script(attached(name), ask(name, noDeadline), expect(0, opOpen, offered, Name(name), noDeadline, uint64(500), map[string]any{"a": "1"}))
}

// tunnel is an open tunnel: the client allows 500 bytes, the service 1000.
func tunnel(name string) []Step {
	return script(asking(name), send(0, opOpened, offered, 1000, map[string]string{"b": "2"}), expect(1, opOpened, asked, uint64(1000), map[string]any{"b": "2"}))
}

// ask asks for a tunnel.
func ask(name string, budget uint64) Step {
	return send(1, opOpen, asked, Name(name), budget, 500, map[string]string{"a": "1"})
}

// there sends data from the client, back from the service.
func there(last int, payload []byte) Step { return send(1, opData, asked, last, payload) }
func back(last int, payload []byte) Step  { return send(0, opData, offered, last, payload) }

// arrives is data at the service, returns at the client.
func arrives(last uint64, payload []byte) Step { return expect(0, opData, offered, last, payload) }
func returns(last uint64, payload []byte) Step { return expect(1, opData, asked, last, payload) }

// aborted is the end of the tunnel on the client's side.
func aborted(code string) Step { return expect(1, opAbort, asked, codes[code]) }

// tunnels are cases of relay.md 10.1 to 10.5: opening, data, allowances.
func tunnels() []Case {
	x := []byte("x")
	openRaw := func(id uint64, name any, headers map[string]string) Step {
		return send(1, opOpen, id, name, noDeadline, 500, headers)
	}
	chunk := bytes.Repeat([]byte("c"), 65_536)
	var sent, got []Step
	for i := range many {
		payload := []byte(fmt.Sprint(i))
		sent, got = append(sent, there(i%2, payload)), append(got, arrives(uint64(i%2), payload))
	}
	return []Case{
		{"a tunnel is accepted", "10.2", Must, script(tunnel("accept"), quiet(0), quiet(1))},
		{"the ids of the node have the highest bit", "10.1", Must, script(attached("bit"), ask("bit", noDeadline), expect(0, opOpen, Between{1 << 63, 1<<64 - 1}))},
		{"a tunnel needs no credit", "10.1", Must, script(tunnel("free"), there(1, x), arrives(1, x))},
		{"a tunnel to nobody", "10.3", Must, script(attach(1, ""), ask("nobody", noDeadline), aborted("no-service"), quiet(1))},
		{"a tunnel to the node itself", "5.7", Must, script(attach(1, ""), openRaw(asked, "$node", none()), aborted("no-service"), quiet(1))},
		{"a tunnel to no name", "10.3", Must, script(attach(1, ""), openRaw(asked, "", none()), aborted("invalid"), quiet(1))},
		{"a tunnel to a name that is too long", "4.3", Must, script(attach(1, ""), openRaw(asked, string(bytes.Repeat([]byte("n"), 256)), none()), aborted("invalid"), quiet(1))},
		{"a tunnel with headers that are too large", "4.3", Must, script(attached("heads"), openRaw(asked, Name("heads"), map[string]string{"h": string(make([]byte, 16_384))}), aborted("invalid"), quiet(1), quiet(0))},
		{"a tunnel is refused", "10.2", Must, script(asking("refuse"), send(0, opAbort, offered, 5, "no room"), expect(1, opAbort, asked, codes["failed"], "no room"), quiet(1), quiet(0))},
		{"a tunnel that nobody accepts in time", "10.3", Must, script(attached("late"), ask("late", 300), expect(0, opOpen, offered, Name("late"), Between{1, 300}), aborted("timeout"), expect(0, opAbort, offered),
			send(0, opOpened, offered, 1000, none()), quiet(0), quiet(1))},
		{"a tunnel with a budget of nothing", "10.3", Must, script(attached("zero"), ask("zero", 0), aborted("timeout"), alive(0), quiet(1))},
		{"a tunnel that is given up", "10.2", Must, script(asking("given"), send(1, opAbort, asked, 0, ""), expect(0, opAbort, offered, uint64(0)), send(0, opOpened, offered, 1000, none()), quiet(0), quiet(1))},
		{"a tunnel to oneself", "10.1", Must, script(attach(0, "self"), alive(0), send(0, opOpen, asked, Name("self"), noDeadline, 500, none()), expect(0, opOpen, offered, Name("self")),
			send(0, opOpened, offered, 1000, none()), expect(0, opOpened, asked, uint64(1000)), send(0, opData, asked, 1, x), expect(0, opData, offered, uint64(1), x), back(1, x), expect(0, opData, asked, uint64(1), x))},
		{"messages both ways", "10.4", Must, script(tunnel("ways"), there(1, []byte("ping")), arrives(1, []byte("ping")), back(1, []byte("pong")), returns(1, []byte("pong")), quiet(0), quiet(1))},
		{"a message of several chunks", "10.4", Must, script(tunnel("parts"), there(0, []byte("a")), there(0, []byte("b")), there(1, []byte("c")), arrives(0, []byte("a")), arrives(0, []byte("b")), arrives(1, []byte("c")), quiet(0))},
		{"a message that is empty", "10.4", Must, script(tunnel("hollow"), there(1, []byte{}), arrives(1, []byte{}), quiet(0))},
		{"the greatest chunk", "10.4", Must, script(tunnel("great"), send(0, opAllow, offered, 70_000), expect(1, opAllow, asked, uint64(70_000)), there(1, chunk), arrives(1, chunk), quiet(0))},
		{"a chunk that is too large", "10.4", Must, script(tunnel("large"), send(0, opAllow, offered, 70_000), expect(1, opAllow, asked, uint64(70_000)), there(1, append(chunk, 'c')),
			aborted("invalid"), expect(0, opAbort, offered, codes["invalid"]), quiet(0), quiet(1))},
		{"chunks come in order", "10.4", Must, script(tunnel("order"), send(0, opAllow, offered, many*100), expect(1, opAllow, asked, uint64(many*100)), sent, got, quiet(0))},
		{"all that is allowed, and more when it is", "10.5", Must, script(tunnel("exact"), there(1, chunk[:936]), arrives(1, chunk[:936]), send(0, opAllow, offered, 69), expect(1, opAllow, asked, uint64(69)), there(1, chunk[:5]), arrives(1, chunk[:5]), quiet(0))},
		{"an allow of the client", "10.5", Must, script(tunnel("other"), back(1, chunk[:436]), returns(1, chunk[:436]), send(1, opAllow, asked, 65), expect(0, opAllow, offered, uint64(65)), back(1, x), returns(1, x), quiet(1))},
		{"a stalled tunnel holds up nothing", "10.10", Must, script(tunnel("stall"), there(1, chunk[:936]), send(0, opCredit, 0, 1), arrives(1, chunk[:936]), quiet(0), send(1, opOpen, 8, Name("stall"), noDeadline, 0, none()),
			expect(0, opOpen, Ref("second"), Name("stall"), noDeadline, uint64(0)), send(0, opOpened, Ref("second"), 65, none()), expect(1, opOpened, uint64(8), uint64(65)),
			send(1, opData, 8, 1, x), expect(0, opData, Ref("second"), uint64(1), x), send(1, opRequest, 1, Name("stall"), noDeadline, none(), x), expect(0, opRequest, Ref("request")),
			send(0, opReply, Ref("request"), 0, "", none(), x), expect(1, opReply, uint64(1), uint64(0)))},
	}
}

// tunnelEnds are cases of relay.md 10.6 to 10.9: how a tunnel ends.
func tunnelEnds() []Case {
	x := []byte("x")
	finished := script(send(1, opFinish, asked), expect(0, opFinish, offered), send(0, opFinish, offered), expect(1, opFinish, asked))
	late := script(there(1, x), send(1, opAllow, asked, 9), send(1, opFinish, asked), send(1, opAbort, asked, 0, ""), back(1, x), send(0, opAllow, offered, 9), send(0, opFinish, offered), send(0, opOpened, offered, 9, none()))
	return []Case{
		{"a finish is passed on", "10.6", Must, script(tunnel("finish"), send(1, opFinish, asked), expect(0, opFinish, offered), quiet(0), quiet(1))},
		{"a finish comes behind the data", "10.6", Must, script(tunnel("behind"), there(0, []byte("a")), there(1, []byte("b")), send(1, opFinish, asked), arrives(0, []byte("a")), arrives(1, []byte("b")), expect(0, opFinish, offered))},
		{"the other direction goes on", "10.6", Must, script(tunnel("half"), send(1, opFinish, asked), expect(0, opFinish, offered), back(1, x), returns(1, x), send(1, opAllow, asked, 65), expect(0, opAllow, offered, uint64(65)),
			back(1, x), returns(1, x), send(0, opFinish, offered), expect(1, opFinish, asked), quiet(0), quiet(1))},
		{"the service finishes first", "10.6", Must, script(tunnel("first"), send(0, opFinish, offered), expect(1, opFinish, asked), there(1, x), arrives(1, x), send(1, opFinish, asked), expect(0, opFinish, offered), quiet(0), quiet(1))},
		{"frames behind the end are ignored", "10.8", Must, script(tunnel("end"), finished, late, quiet(0), quiet(1))},
		{"an abort of the client", "10.7", Must, script(tunnel("left"), send(1, opAbort, asked, 0, ""), expect(0, opAbort, offered, uint64(0), ""), late, quiet(0), quiet(1))},
		{"an abort of the service with a reason", "10.7", Must, script(tunnel("right"), send(0, opAbort, offered, 5, "naïve"), expect(1, opAbort, asked, codes["failed"], "naïve"), late, quiet(0), quiet(1))},
		{"an abort behind a finish", "10.9", Must, script(tunnel("broken"), send(1, opFinish, asked), expect(0, opFinish, offered), send(1, opAbort, asked, 5, "no"), expect(0, opAbort, offered, codes["failed"], "no"), quiet(0), quiet(1))},
		{"frames for tunnels that never were", "10.8", Must, script(attach(0, "never"), send(0, opData, uint64(1<<63), 1, x), send(0, opAllow, 77, 9), send(0, opFinish, uint64(1<<63)), send(0, opAbort, 77, 0, ""), send(0, opOpened, uint64(1<<63), 9, none()), quiet(0))},
		{"an id is free again", "10.1", Must, script(tunnel("again"), finished, ask("again", noDeadline), expect(0, opOpen, Ref("next"), Name("again")), send(0, opOpened, Ref("next"), 65, none()), expect(1, opOpened, asked, uint64(65)),
			there(1, x), expect(0, opData, Ref("next"), uint64(1), x))},
		{"the service goes away", "6.6", Must, script(tunnel("dead"), Step{On: 0, Finish: true}, aborted("lost"), quiet(1))},
		{"the client goes away", "6.6", Must, script(tunnel("alone"), Step{On: 1, Finish: true}, expect(0, opAbort, offered, codes["lost"]), quiet(0))},
		{"the client says bye", "6.6", Must, script(tunnel("bye"), send(1, opBye, 0, ""), end(1, "any"), expect(0, opAbort, offered, codes["lost"]), quiet(0))},
		{"the service goes away before it accepts", "10.3", Must, script(asking("early"), Step{On: 0, Finish: true}, aborted("lost"), quiet(1))},
		{"no tunnel behind drained", "6.3", Must, script(attached("dry"), send(0, opDrain), expect(0, opDrained), ask("dry", noDeadline), aborted("no-service"), quiet(0))},
		{"drained waits for the tunnels", "6.3", Must, script(tunnel("wait"), send(0, opDrain), quiet(0), there(1, x), arrives(1, x), back(1, x), returns(1, x), send(1, opAbort, asked, 0, ""), expect(0, opAbort, offered), expect(0, opDrained))},
		{"drained does not wait for the service's own tunnels", "6.3", Must, script(tunnel("wide"), send(1, opAbort, asked, 0, ""), expect(0, opAbort, offered), attach(2, "far"), alive(2),
			send(0, opOpen, 9, Name("far"), noDeadline, 0, none()), expect(2, opOpen, Ref("far")), send(2, opOpened, Ref("far"), 65, none()), expect(0, opOpened, uint64(9)),
			send(0, opDrain), expect(0, opDrained), send(0, opData, 9, 1, x), expect(2, opData, Ref("far"), uint64(1), x))},
	}
}

// tunnelMistakes are cases of what ends a connection.
func tunnelMistakes() []Case {
	x := []byte("x")
	lostThere, lostBack := expect(0, opAbort, offered, codes["lost"]), aborted("lost")
	return []Case{
		{"data beyond what is allowed", "10.5", Must, script(tunnel("over"), there(1, make([]byte, 937)), end(1, "unexpected"), lostThere, quiet(0))},
		{"data beyond what is left", "10.5", Must, script(tunnel("rest"), there(1, make([]byte, 900)), arrives(1, make([]byte, 900)), there(1, []byte{}), end(1, "unexpected"), lostThere, quiet(0))},
		{"data of the service beyond what is allowed", "10.5", Must, script(tunnel("flood"), back(1, make([]byte, 437)), end(0, "unexpected"), lostBack, quiet(1))},
		{"data before the tunnel is open", "10.5", Must, script(asking("hasty"), there(1, x), end(1, "unexpected"), expect(0, opAbort, offered), quiet(0))},
		{"an allow of too much", "10.5", Must, script(tunnel("greed"), send(0, opAllow, offered, 1<<31-1), end(0, "unexpected"), lostBack, quiet(1))},
		{"an opened with too great a window", "10.5", Must, script(asking("wide"), send(0, opOpened, offered, 1<<31, none()), end(0, "unexpected"), lostBack, quiet(1))},
		{"data behind one's finish", "10.6", Must, script(tunnel("after"), send(1, opFinish, asked), expect(0, opFinish, offered), there(1, x), end(1, "unexpected"), lostThere, quiet(0))},
		{"a second finish", "10.6", Must, script(tunnel("twice"), send(0, opFinish, offered), expect(1, opFinish, asked), send(0, opFinish, offered), end(0, "unexpected"), lostBack, quiet(1))},
		{"an open with an id in use", "10.1", Must, script(tunnel("reuse"), ask("reuse", noDeadline), end(1, "unexpected"), lostThere, quiet(0))},
		{"an open with an id that is being asked for", "10.1", Must, script(asking("hurry"), ask("hurry", noDeadline), end(1, "unexpected"), expect(0, opAbort, offered), quiet(0))},
		{"an opened of the one that asked", "10.2", Must, script(asking("cheat"), send(1, opOpened, asked, 9, none()), end(1, "unexpected"), expect(0, opAbort, offered), quiet(0))},
		{"a second opened", "10.2", Must, script(tunnel("redo"), send(0, opOpened, offered, 9, none()), end(0, "unexpected"), lostBack, quiet(1))},
	}
}
