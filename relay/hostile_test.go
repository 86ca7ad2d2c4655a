package relay

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func TestBrokenFramesEndTheirConnectionAndNoOther(t *testing.T) {
	w := newWorld(t, Config{})
	bystander := w.attach("")
	limit := uint32(wire.DefaultLimits().Frame)
	head := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0xc6}, n) }
	for name, test := range map[string]struct {
		said []byte
		code wire.Code
	}{
		"no bin":                  {[]byte{0x91, 0x03}, wire.CodeMalformed},
		"zero length":             {[]byte{0xc4, 0x00}, wire.CodeMalformed},
		"limit + 1":               {head(limit + 1), wire.CodeTooLarge},
		"2^31":                    {head(1 << 31), wire.CodeTooLarge},
		"2^32-1":                  {head(math.MaxUint32), wire.CodeTooLarge},
		"unknown op":              {frame(0x91, 0x7f), wire.CodeMalformed},
		"op beyond a byte":        {frame(0x91, 0xcd, 0x01, 0x10), wire.CodeMalformed},
		"no array":                {frame(0x03), wire.CodeMalformed},
		"empty array":             {frame(0x90), wire.CodeMalformed},
		"nil":                     {frame(0xc0), wire.CodeMalformed},
		"nil field":               {frame(0x92, 0x03, 0xc0), wire.CodeMalformed},
		"wrong type":              {frame(0x92, 0x03, 0xa1, 'x'), wire.CodeMalformed},
		"missing field":           {frame(0x91, 0x03), wire.CodeMalformed},
		"ext":                     {frame(0x92, 0x03, 0xc7, 0x01, 0x01, 0x01), wire.CodeMalformed},
		"nan":                     {frame(0x92, 0x03, 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), wire.CodeMalformed},
		"negative":                {frame(0x92, 0x03, 0xff), wire.CodeMalformed},
		"trailing bytes":          {frame(0x92, 0x03, 0x01, 0x00), wire.CodeMalformed},
		"depth bomb":              {frame(append([]byte{0x93, 0x03, 0x01}, bytes.Repeat([]byte{0x91}, 100_000)...)...), wire.CodeMalformed},
		"array bomb":              {frame(0xdd, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"array bomb, no frame":    {[]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, wire.CodeMalformed},
		"map bomb":                {frame(0xdf, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"map bomb, no frame":      {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, wire.CodeMalformed},
		"map bomb in headers":     {frame(0x96, 0x10, 0x01, 0xa1, 'x', 0x01, 0xdf, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"binary bomb":             {frame(0xc6, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"binary bomb in payload":  {frame(0x96, 0x10, 0x01, 0xa1, 'x', 0x01, 0x80, 0xc6, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"second hello":            {hello(""), wire.CodeUnexpected},
		"welcome":                 {wire.AppendWelcome(nil, wire.Welcome{Version: 1}), wire.CodeUnexpected},
		"leaving":                 {wire.AppendLeaving(nil), wire.CodeUnexpected},
		"drain from a client":     {wire.AppendDrain(nil), wire.CodeUnexpected},
		"credit from a client":    {wire.AppendCredit(nil, wire.KindRequest, 1), wire.CodeUnexpected},
		"request without payload": {frame(0x95, 0x10, 0x01, 0xa1, 'x', 0x01, 0x80), wire.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.attach("")
			c.t = t
			c.send(test.said)
			c.expectBye(test.code)
			bystander.echo(1)
		})
	}
}

func TestFrameAtTheLimitIsHandled(t *testing.T) {
	w := newWorld(t, Config{})
	c := w.attach("")
	ping := []byte{0x93, 0x03, 0x05, 0xc6, 0, 0, 0, 0} // with a further field, which is ignored
	ping = append(ping, make([]byte, int(wire.DefaultLimits().Frame)-len(ping))...)
	binary.BigEndian.PutUint32(ping[4:], uint32(len(ping)-8))

	c.send(frame(ping...))

	token, err := wire.ParsePong(c.expect(wire.OpPong))
	require.NoError(t, err)
	require.EqualValues(t, 5, token)
}

func TestFramesTruncatedAtEveryByte(t *testing.T) {
	w := newWorld(t, Config{})
	whole := wire.AppendRequest(nil, wire.Request{ID: 1, Cluster: []byte("echo"), Budget: 1000,
		Headers: wire.EncodeHeaders(map[string]string{"a": "b"}), Payload: []byte("payload")})
	content := whole[2:] // behind the head of a short frame
	for n := range content {
		c := w.attach("")
		c.send(frame(content[:n]...))
		c.expectBye(wire.CodeMalformed)
	}
	for n := range whole {
		c := w.attach("")
		c.send(whole[:n])
		c.kill()
	}
	w.none()
}

func TestCreditOverflowEndsTheSession(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", math.MaxInt32)
	service.send(wire.AppendCredit(nil, wire.KindRequest, 1))
	service.expectBye(wire.CodeUnexpected)

	service = w.serve("demo", 1)
	service.send(wire.AppendCredit(nil, 99, 1))
	service.expectBye(wire.CodeUnexpected)
}

func TestConnectionsOverTheLimitAreRefused(t *testing.T) {
	w := newWorld(t, Config{Connections: 3})
	clients := []*client{w.attach(""), w.attach(""), w.raw()}
	for range 200 {
		c := w.raw()
		c.expectRefuse(wire.CodeLimit)
		c.kill()
	}
	clients[0].echo(1)
	clients[1].kill()
	w.eventually(func() bool { return len(w.server.all()) == 2 }, "a killed client is still counted")
	w.attach("").echo(1)
}

func TestClientThatNeverReadsIsBoundedAndCounted(t *testing.T) {
	w := newWorld(t, Config{})
	lazy := w.attach("")
	payload := make([]byte, 1<<20)
	const requests = 200
	for id := range uint64(requests) {
		lazy.send(request(id, "hold", ""))
	}
	w.eventually(func() bool { return w.server.Clients()[0].Unanswered == requests }, "requests are missing")
	session := w.network.port(0).session

	for id := range uint64(requests) {
		session.PushReply(wire.Reply{ID: id, Payload: payload})
		session.Flush()
	}

	require.LessOrEqual(t, session.out.Pending(), outputLimit+outputReserve)
	described := w.server.Clients()[0]
	require.Zero(t, described.Unanswered)
	require.Greater(t, described.Dropped["reply"], uint64(requests-40))
	w.attach("").echo(1)
	whole, lost := 0, 0
	for id := range uint64(requests) {
		r, err := wire.ParseReply(lazy.expect(wire.OpReply))
		require.NoError(t, err)
		require.Equal(t, id, r.ID)
		if r.Code == wire.CodeOK {
			whole++
			require.Len(t, r.Payload, len(payload))
		} else {
			lost++
			require.Equal(t, wire.CodeLost, r.Code)
		}
	}
	require.EqualValues(t, int(described.Dropped["reply"]), lost)
	require.Equal(t, requests, whole+lost)
	lazy.echo(1)
}

func TestClientThatSendsButNeverReadsIsEnded(t *testing.T) {
	w := newWorld(t, Config{Limits: limitRequests(1)})
	flood := w.attach("")
	session := w.network.port(0).session
	flood.send(request(1, "hold", ""))
	many := bytes.Repeat(request(2, "hold", ""), 10_000)
	for range 1000 {
		if _, err := flood.conn.Write(many); err != nil {
			break
		}
		require.LessOrEqual(t, session.out.Pending(), outputLimit+outputReserve)
	}
	w.none()
	w.attach("").echo(1)
}

func TestServiceThatNeverReadsIsGivenABoundedNumber(t *testing.T) {
	w := newWorld(t, Config{})
	w.serve("demo", math.MaxInt32)
	session := w.network.port(0).session
	payload := make([]byte, 1<<20)
	given := 0
	for id := range uint64(200) {
		if session.PushRequest(wire.Request{ID: id, Payload: payload}) {
			given++
		}
		session.Flush()
	}
	require.Less(t, given, 40)
	require.Equal(t, given, w.server.Clients()[0].Running)
	require.LessOrEqual(t, session.out.Pending(), outputLimit)
}

func TestServiceThatNeverAnswersIsGivenABoundedNumber(t *testing.T) {
	w := newWorld(t, Config{})
	service := w.serve("demo", math.MaxInt32)
	go func() {
		for {
			if _, err := service.in.Next(); err != nil {
				return
			}
		}
	}()
	session := w.network.port(0).session
	given := 0
	for id := range uint64(2 * maxGiven) {
		if session.PushRequest(wire.Request{ID: id}) {
			given++
		}
		session.Flush()
	}
	require.Equal(t, maxGiven, given)
}

func TestNothingLeaksWhateverClientsDo(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t, Config{})
	for i := range 100 {
		c := w.raw()
		switch i % 5 {
		case 0: // killed before it says anything
		case 1:
			c.send([]byte("GET / HTTP/1.0\r\n\r\n"))
		case 2:
			c.send(hello("demo"), wire.AppendCredit(nil, wire.KindRequest, 8))
		case 3:
			c.send(hello(""), request(1, "demo", "x"), request(2, "hold", "x"))
		case 4:
			c.send(hello(""), request(1, "demo", "x"), []byte{0xc6, 0xff})
		}
		if i%2 == 0 {
			c.kill()
		}
	}
	require.NoError(t, w.server.Close())
	w.eventually(func() bool { return runtime.NumGoroutine() <= before }, "goroutines are left")
	for _, p := range w.network.ports {
		require.Equal(t, 1, p.count(func(p *fakePort) int { return p.closes }))
	}
}
