package conformance

import (
	"bytes"
	"fmt"
)

// topics are cases of relay.md 9: a subscriber (connection 0) and a publisher (1).
func topics() []Case {
	wish := func(on int, op byte, id uint64, topic any, code string) []Step {
		return script(send(on, op, id, topic), expect(on, opDone, id, codes[code]))
	}
	subscribe := func(topic any) []Step { return wish(0, opSubscribe, 4, topic, "ok") }
	unsubscribe := func(topic any) []Step { return wish(0, opUnsubscribe, 5, topic, "ok") }
	subscribed := func(topic string, credit int) []Step {
		return script(attach(0, ""), send(0, opCredit, 2, credit), subscribe(Name(topic)), attach(1, ""))
	}
	silent := func(on int, topic any, payload string) Step { // an outcome could come before or behind the event
		return send(on, opPublish, 0, topic, map[string]string{"trace": "7"}, []byte(payload))
	}
	publish := func(topic any, payload, code string) []Step {
		return script(send(1, opPublish, 3, topic, map[string]string{"trace": "7"}, []byte(payload)), expect(1, opDone, uint64(3), codes[code]))
	}
	event := func(on int, topic, payload string) Step {
		return expect(on, opEvent, Name(topic), map[string]any{"trace": "7"}, []byte(payload))
	}
	longest, tooLong := string(bytes.Repeat([]byte("t"), 255)), string(bytes.Repeat([]byte("t"), 256))
	var sent, got, loop []Step
	for i := range many {
		payload := fmt.Sprint(i)
		sent, got = append(sent, silent(1, Name("ordered"), payload)), append(got, event(0, "ordered", payload))
	}
	for range 20 {
		loop = script(loop, subscribe(Name("loop")), unsubscribe(Name("loop")), wish(0, opUnsubscribe, 6, Name("loop"), "invalid"))
	}
	return []Case{
		{"a subscribe is confirmed", "9.3", Must, script(attach(0, ""), subscribe(Name("news")), quiet(0))},
		{"an event of another client", "9.2", Must, script(subscribed("other", 9), publish(Name("other"), "x", "ok"), event(0, "other", "x"), quiet(0))},
		{"an event of one's own", "9.5", Must, script(subscribed("own", 9), silent(0, Name("own"), "x"), event(0, "own", "x"), quiet(0))},
		{"an event that is empty", "9.2", Must, script(subscribed("hollow", 9), publish(Name("hollow"), "", "ok"), event(0, "hollow", ""))},
		{"an event comes once to every subscriber", "9.2", Must, script(subscribed("twins", 9), attach(2, ""), send(2, opCredit, 2, 9), wish(2, opSubscribe, 4, Name("twins"), "ok"),
			publish(Name("twins"), "x", "ok"), event(0, "twins", "x"), event(2, "twins", "x"), quiet(0), quiet(2))},
		{"a service subscribes", "9.2", Must, script(attach(0, "both"), send(0, opCredit, 2, 9), subscribe(Name("both")), attach(1, ""), publish(Name("both"), "x", "ok"), event(0, "both", "x"))},
		{"a topic is not a cluster", "9.1", Must, script(attach(0, "same"), send(0, opCredit, 1, 9), send(0, opCredit, 2, 9), quiet(0), attach(1, ""), publish(Name("same"), "x", "ok"), quiet(0))},
		{"an event of another topic", "9.2", Must, script(subscribed("this", 9), publish(Name("that"), "x", "ok"), quiet(0), publish(Name("this"), "y", "ok"), event(0, "this", "y"))},
		{"a publish to nobody", "9.1", Must, script(attach(1, ""), publish(Name("nobody"), "x", "ok"), quiet(1))},
		{"a publish without an outcome", "8.3", Must, script(attach(1, ""), silent(1, Name("nobody"), "x"), silent(1, "", "x"), publish(Name("nobody"), "y", "ok"), quiet(1))},
		{"a publish on no topic", "9.1", Must, script(attach(1, ""), publish("", "x", "invalid"), quiet(1))},
		{"a publish on a topic that is too long", "4.3", Must, script(attach(1, ""), publish(tooLong, "x", "invalid"), quiet(1))},
		{"a publish that is too large", "4.3", Must, script(subscribed("large", 9), send(1, opPublish, 3, Name("large"), none(), make([]byte, 1_048_577)), expect(1, opDone, uint64(3), codes["invalid"]), quiet(1), quiet(0))},
		{"a subscribe to no topic", "9.3", Must, script(attach(0, ""), wish(0, opSubscribe, 4, "", "invalid"), quiet(0))},
		{"a subscribe to the longest topic", "9.3", Must, script(attach(0, ""), subscribe(longest), quiet(0))},
		{"a subscribe to a topic that is too long", "4.3", Must, script(attach(0, ""), wish(0, opSubscribe, 4, tooLong, "invalid"), quiet(0))},
		{"a subscribe of id 0", "8.3", Must, script(attach(0, ""), wish(0, opSubscribe, 0, Name("zero"), "ok"), quiet(0))},
		{"a second subscribe", "9.3", Must, script(subscribed("twice", 9), wish(0, opSubscribe, 5, Name("twice"), "invalid"), publish(Name("twice"), "x", "ok"), event(0, "twice", "x"), quiet(0))},
		{"an unsubscribe", "9.4", Must, script(subscribed("past", 9), unsubscribe(Name("past")), publish(Name("past"), "x", "ok"), quiet(0))},
		{"an unsubscribe of what is not subscribed", "9.4", Must, script(attach(0, ""), wish(0, opUnsubscribe, 5, Name("never"), "invalid"), quiet(0))},
		{"a second unsubscribe", "9.4", Must, script(subscribed("gone", 9), unsubscribe(Name("gone")), wish(0, opUnsubscribe, 6, Name("gone"), "invalid"), quiet(0))},
		{"an unsubscribe of one of two topics", "9.4", Must, script(subscribed("kept", 9), subscribe(Name("left")), unsubscribe(Name("left")),
			publish(Name("left"), "x", "ok"), publish(Name("kept"), "y", "ok"), event(0, "kept", "y"), quiet(0))},
		{"a subscribe behind an unsubscribe", "9.4", Must, script(subscribed("again", 9), unsubscribe(Name("again")), subscribe(Name("again")), publish(Name("again"), "x", "ok"), event(0, "again", "x"), quiet(0))},
		{"subscribing and unsubscribing over and over", "9.4", Must, script(attach(0, ""), loop, quiet(0))},
		{"events come in order", "9.5", Must, script(subscribed("ordered", many), sent, got, quiet(0))},
		{"no event without credit", "5.5", Must, script(subscribed("poor", 0), publish(Name("poor"), "lost", "ok"), quiet(0),
			send(0, opCredit, 2, 1), quiet(0), publish(Name("poor"), "x", "ok"), event(0, "poor", "x"), quiet(0))},
		{"as many events as there is credit", "9.2", Must, script(subscribed("exact", 2), silent(1, Name("exact"), "1"), silent(1, Name("exact"), "2"), silent(1, Name("exact"), "lost"), publish(Name("exact"), "lost", "ok"),
			event(0, "exact", "1"), event(0, "exact", "2"), quiet(0), send(0, opCredit, 2, 1), quiet(0), publish(Name("exact"), "5", "ok"), event(0, "exact", "5"), quiet(0))},
		{"a slow subscriber delays nobody", "9.2", Must, script(subscribed("quick", 9), attach(2, ""), wish(2, opSubscribe, 4, Name("quick"), "ok"), publish(Name("quick"), "x", "ok"), event(0, "quick", "x"), quiet(2))},
		{"a subscription ends with its connection", "9.6", Must, script(subscribed("mortal", 9), Step{On: 0, Finish: true}, attach(0, ""), send(0, opCredit, 2, 9), quiet(0), publish(Name("mortal"), "x", "ok"), quiet(0))},
		{"a drained service keeps its subscriptions", "6.3", Must, script(attach(0, "dry"), send(0, opCredit, 2, 9), subscribe(Name("dry")), send(0, opDrain), expect(0, opDrained), attach(1, ""), publish(Name("dry"), "x", "ok"), event(0, "dry", "x"))},
	}
}
