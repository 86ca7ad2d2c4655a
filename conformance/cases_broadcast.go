package conformance

import (
	"bytes"
	"fmt"
)

// many is how many messages show that an order is kept.
const many = 100

// broadcasts are cases of relay.md 8: a service (connection 0) and a client (1).
func broadcasts() []Case {
	member := func(name string, credit int) []Step {
		return script(attach(0, name), send(0, opCredit, 1, credit), alive(0), attach(1, ""))
	}
	tell := func(id uint64, name any, payload string) Step {
		return send(1, opBroadcast, id, name, map[string]string{"trace": "7"}, []byte(payload))
	}
	given := func(on int, name, payload string) Step {
		return expect(on, opBroadcast, uint64(0), Name(name), map[string]any{"trace": "7"}, []byte(payload))
	}
	done := func(id uint64, code string) Step { return expect(1, opDone, id, codes[code]) }
	tooLong := string(bytes.Repeat([]byte("n"), 256))
	var sent, got []Step
	for i := range many {
		payload := fmt.Sprint(i)
		sent, got = append(sent, tell(0, Name("ordered"), payload)), append(got, given(0, "ordered", payload))
	}
	return []Case{
		{"a member gets a broadcast", "8.1", Must, script(member("member", 9), tell(2, Name("member"), "x"), done(2, "ok"), given(0, "member", "x"), quiet(0))},
		{"a broadcast that is empty", "8.1", Must, script(member("hollow", 9), tell(2, Name("hollow"), ""), done(2, "ok"), given(0, "hollow", ""))},
		{"every member gets a broadcast", "8.1", Must, script(member("pair", 9), attach(2, "pair"), send(2, opCredit, 1, 9), alive(2),
			tell(2, Name("pair"), "x"), done(2, "ok"), given(0, "pair", "x"), given(2, "pair", "x"), quiet(0), quiet(2))},
		{"a member gets its own broadcast", "8.1", Must, script(member("own", 9), send(0, opBroadcast, 0, Name("own"), none(), []byte("x")),
			expect(0, opBroadcast, uint64(0), Name("own"), map[string]any{}, []byte("x")), quiet(0))},
		{"no broadcast to another cluster", "8.1", Must, script(member("here", 9), attach(2, "there"), tell(2, Name("there"), "x"), done(2, "ok"), quiet(0))},
		{"a broadcast without an outcome", "8.3", Must, script(attach(1, ""), tell(0, Name("none"), "x"), tell(0, "", "x"), tell(7, Name("none"), "y"), done(7, "no-service"), quiet(1))},
		{"broadcasts of one id", "8.3", Must, script(attach(1, ""), tell(7, Name("none"), "x"), tell(7, Name("none"), "y"), done(7, "no-service"), done(7, "no-service"), quiet(1))},
		{"a broadcast of the greatest id", "8.3", Must, script(attach(1, ""), tell(1<<64-1, Name("none"), "x"), done(1<<64-1, "no-service"))},
		{"a broadcast to nobody", "8.4", Must, script(attach(1, ""), tell(2, Name("none"), "x"), done(2, "no-service"), quiet(1))},
		{"a broadcast to the node itself", "5.7", Must, script(attach(1, ""), tell(2, "$node", "x"), done(2, "no-service"), quiet(1))},
		{"a broadcast to no name", "8.4", Must, script(attach(1, ""), tell(2, "", "x"), done(2, "invalid"), quiet(1))},
		{"a broadcast to a name that is too long", "4.3", Must, script(attach(1, ""), tell(2, tooLong, "x"), done(2, "invalid"), quiet(1))},
		{"a broadcast that is too large", "4.3", Must, script(member("large", 9), send(1, opBroadcast, 2, Name("large"), none(), make([]byte, 1_048_577)), done(2, "invalid"), quiet(1), quiet(0))},
		{"broadcasts come in order", "8.5", Must, script(member("ordered", many), sent, got, quiet(0))},
		{"no broadcast without credit", "5.5", Must, script(member("poor", 0), tell(2, Name("poor"), "lost"), done(2, "ok"), quiet(0),
			send(0, opCredit, 1, 1), quiet(0), tell(3, Name("poor"), "x"), done(3, "ok"), given(0, "poor", "x"), quiet(0))},
		{"as many broadcasts as there is credit", "8.2", Must, script(member("exact", 2), tell(0, Name("exact"), "1"), tell(0, Name("exact"), "2"), tell(0, Name("exact"), "lost"), tell(4, Name("exact"), "lost"),
			done(4, "ok"), given(0, "exact", "1"), given(0, "exact", "2"), quiet(0), send(0, opCredit, 1, 1), quiet(0), tell(5, Name("exact"), "5"), done(5, "ok"), given(0, "exact", "5"), quiet(0))},
		{"credit for requests is none for broadcasts", "5.5", Must, script(attach(0, "apart"), send(0, opCredit, 0, 9), send(0, opCredit, 2, 9), quiet(0), attach(1, ""), tell(2, Name("apart"), "x"), done(2, "ok"), quiet(0))},
		{"no broadcast behind drained", "6.3", Must, script(member("dry", 9), send(0, opDrain), expect(0, opDrained), tell(2, Name("dry"), "x"), done(2, "no-service"), quiet(0))},
	}
}
