package relay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func TestRequestTravelsToAServiceAndItsReplyBack(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	headers := wire.EncodeHeaders(map[string]string{"trace": "t1"})

	c.send(wire.AppendRequest(nil, wire.Request{ID: 9, Cluster: []byte("demo"), Budget: 250, Headers: headers, Payload: []byte("ping")}))

	r := service.expectRequest()
	require.Equal(t, "demo", string(r.Cluster))
	require.EqualValues(t, 250, r.Budget)
	require.Equal(t, headers, r.Headers)
	require.Equal(t, "ping", string(r.Payload))
	service.send(wire.AppendReply(nil, wire.Reply{ID: r.ID, Headers: headers, Payload: []byte("pong")}))
	got := c.expectReply(9, wire.CodeOK)
	require.Equal(t, headers, got.Headers)
	require.Equal(t, "pong", string(got.Payload))
}

func TestEmptyRepliesAndEmptyErrorsStayWhatTheyAre(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 2)
	c := w.attach("")

	c.send(request(1, "demo", ""), request(2, "demo", ""))
	first, second := service.expectRequest().ID, service.expectRequest().ID
	service.send(reply(first, ""), wire.AppendReply(nil, wire.Reply{ID: second, Code: wire.CodeFailed}))

	require.Empty(t, c.expectReply(1, wire.CodeOK).Payload)
	require.Empty(t, c.expectReply(2, wire.CodeFailed).Text)
}

func TestOneByteChopsAndOneSegmentGiveTheSame(t *testing.T) {
	w := newWorld(t, Config{})
	var all []byte
	for _, f := range [][]byte{request(1, "echo", "a"), request(2, "echo", "b"), wire.AppendPing(nil, 1), request(3, "nobody", "c")} {
		all = append(all, f...)
	}
	chopped, whole := w.raw(), w.attach("")
	for _, b := range hello("") {
		chopped.send([]byte{b})
	}
	chopped.expect(wire.OpWelcome)
	for _, b := range all {
		chopped.send([]byte{b})
	}
	whole.send(all)
	for _, c := range []*client{chopped, whole} {
		require.Equal(t, "a", string(c.expectReply(1, wire.CodeOK).Payload))
		require.Equal(t, "b", string(c.expectReply(2, wire.CodeOK).Payload))
		c.expect(wire.OpPong)
		c.expectReply(3, wire.CodeNoService)
	}
}

func TestServiceGetsNoMoreThanItsCredit(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 2)
	c := w.attach("")

	c.send(request(1, "demo", ""), request(2, "demo", ""), request(3, "demo", ""))

	c.expectReply(3, wire.CodeOverloaded)
	first, second := service.expectRequest().ID, service.expectRequest().ID
	service.send(reply(first, ""), reply(second, ""))
	c.expectReply(1, wire.CodeOK)
	c.expectReply(2, wire.CodeOK)
	// A reply grants nothing by itself.
	c.send(request(4, "demo", ""))
	c.expectReply(4, wire.CodeOverloaded)
	service.send(wire.AppendCredit(nil, wire.KindRequest, 1))
	service.sync()
	c.send(request(5, "demo", ""))
	service.expectRequest()
}

func TestRequestsOverTheLimitAreOverloadedAndTheConnectionGoesOn(t *testing.T) {
	w := newWorld(t, Config{Limits: limitRequests(4)})
	c := w.attach("")
	for id := range uint64(4) {
		c.send(request(id, "hold", ""))
	}
	for id := uint64(4); id < 1000; id++ {
		c.send(request(id, "echo", ""))
		c.expectReply(id, wire.CodeOverloaded)
	}
	require.Equal(t, 4, w.server.Clients()[0].Unanswered)
	w.network.port(0).session.PushReply(wire.Reply{ID: 2})
	w.network.port(0).session.Flush()
	c.expectReply(2, wire.CodeOK)
	c.echo(2) // the id is free again
}

func TestRequestThatBreaksALimitIsInvalidAndTheConnectionGoesOn(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	limits := wire.DefaultLimits()
	long := string(make([]byte, limits.Headers))
	for id, r := range []wire.Request{
		{Cluster: []byte("echo"), Payload: make([]byte, limits.Payload+1)},
		{Cluster: []byte("echo"), Headers: wire.EncodeHeaders(map[string]string{"h": long})},
		{Cluster: make([]byte, limits.Name+1)},
		{Cluster: nil},
	} {
		r.ID = uint64(id)
		c.send(wire.AppendRequest(nil, r))
		require.NotEmpty(t, c.expectReply(r.ID, wire.CodeInvalid).Text)
	}
	c.send(request(9, "echo", string(make([]byte, limits.Payload))))
	require.Len(t, c.expectReply(9, wire.CodeOK).Payload, int(limits.Payload))
	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.requests }))
}

func TestReplyWithACodeOfTheNodeIsAFailure(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	service.send(wire.AppendReply(nil, wire.Reply{ID: service.expectRequest().ID, Code: wire.CodeOverloaded}))
	require.Contains(t, string(c.expectReply(1, wire.CodeFailed).Text), "overloaded")
}

func TestReplyThatBreaksALimitIsAFailure(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	service.send(reply(service.expectRequest().ID, string(make([]byte, wire.DefaultLimits().Payload+1))))
	require.NotEmpty(t, c.expectReply(1, wire.CodeFailed).Text)
	service.sync()
}

func TestIDOfAnUnansweredRequestCannotBeUsedAgain(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(request(1, "hold", ""), request(1, "hold", ""))
	c.expectBye(wire.CodeUnexpected)
	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.requests }))
}

func TestRequestIsAnsweredOnce(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(request(1, "hold", ""))
	c.sync()
	s := w.network.port(0).session

	s.PushReply(wire.Reply{ID: 1, Code: wire.CodeTimeout})
	s.PushReply(wire.Reply{ID: 1}) // too late
	s.PushReply(wire.Reply{ID: 2}) // never asked
	s.Flush()

	c.expectReply(1, wire.CodeTimeout)
	c.sync() // nothing in between
}

func TestReplyToAnUnknownRequestIsIgnored(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	id := service.expectRequest().ID

	service.send(reply(id+1, "never given"), reply(id, "once"), reply(id, "twice"))
	service.sync()

	require.Equal(t, "once", string(c.expectReply(1, wire.CodeOK).Payload))
	c.sync()
	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.replies }))
}

func TestCancelReachesTheServiceAndEndsTheRequest(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	id := service.expectRequest().ID

	c.send(wire.AppendCancel(nil, 1))

	got, err := wire.ParseCancel(service.expect(wire.OpCancel))
	require.NoError(t, err)
	require.Equal(t, id, got)
	c.expectReply(1, wire.CodeCancelled)
	service.send(reply(id, "late"))
	service.sync()
	c.sync()
}

func TestCancelOfAnUnknownRequestIsIgnored(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	c.send(wire.AppendCancel(nil, 1))
	c.echo(1)
	c.send(wire.AppendCancel(nil, 1))
	c.sync()
	require.Empty(t, w.network.port(0).cancels)
}

func TestDrainedServiceFinishesAndGoesOnAsAClient(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 5)
	c := w.attach("")
	c.send(request(1, "demo", ""), request(2, "demo", ""))
	first, second := service.expectRequest().ID, service.expectRequest().ID

	service.send(wire.AppendDrain(nil))
	service.sync() // not drained yet

	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.drains }))
	require.False(t, w.network.port(0).session.PushRequest(wire.Request{ID: 77}), "a draining service was given a request")
	service.send(reply(first, ""))
	service.sync()
	service.send(reply(second, ""))
	service.expect(wire.OpDrained)
	c.expectReply(1, wire.CodeOK)
	c.expectReply(2, wire.CodeOK)
	service.echo(1)
}

func TestServiceIsDrainedWhenTheRestIsCancelled(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 5)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	id := service.expectRequest().ID
	service.send(wire.AppendDrain(nil))
	service.sync()

	c.send(wire.AppendCancel(nil, 1))

	service.expect(wire.OpCancel)
	service.expect(wire.OpDrained)
	service.send(reply(id, "late"))
	service.sync() // ignored, and drained is told once
}

func TestSecondDrainIsUnexpected(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 5)
	service.send(wire.AppendDrain(nil))
	service.expect(wire.OpDrained)
	service.send(wire.AppendDrain(nil))
	service.expectBye(wire.CodeUnexpected)
}

func TestIdleServiceIsDrainedAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 5)
	service.send(wire.AppendDrain(nil))
	service.expect(wire.OpDrained)
}

func TestByeEndsTheSession(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("demo")
	c.send(wire.AppendBye(nil, wire.CodeOK, ""))
	c.expectEnd()
	w.none()
	require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.closes }))
}

func TestByeAndDisconnectAtOnceHarmsNobody(t *testing.T) {
	w := newWorld(t, Config{})
	other := w.attach("")
	for range 50 {
		c := w.attach("demo")
		c.send(wire.AppendBye(nil, wire.CodeOK, ""))
		c.kill()
	}
	other.echo(1)
}

func TestServiceKilledWithARequestEndsItAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	service.expectRequest()

	service.kill()

	c.expectReply(1, wire.CodeLost)
}

func TestServiceKilledInTheMiddleOfItsReplyEndsTheRequestAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 1)
	c := w.attach("")
	c.send(request(1, "demo", ""))
	answer := reply(service.expectRequest().ID, "half of it")

	service.send(answer[:len(answer)/2])
	service.kill()

	c.expectReply(1, wire.CodeLost)
}

func TestClientKilledInTheMiddleOfARequestLeavesNothing(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", 10)
	whole := request(2, "demo", "half of it")
	c := w.attach("")
	c.send(request(1, "demo", "whole"), whole[:len(whole)/2])
	id := service.expectRequest().ID

	c.kill()

	w.eventually(func() bool { return len(w.server.all()) == 1 }, "the killed client is still there")
	service.send(reply(id, "for nobody"))
	service.sync()
	w.attach("").echo(1)
	require.Equal(t, 1, w.network.port(1).count(func(p *fakePort) int { return p.closes }))
}
