package relay

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func TestWelcomeTellsLimitsAndInfo(t *testing.T) {
	w := newWorld(t, Config{Limits: limitRequests(7), Info: map[string]string{"node": "n1"}})
	c := w.raw()

	c.send(hello("demo"))

	welcome, err := wire.ParseWelcome(c.expect(wire.OpWelcome))
	require.NoError(t, err)
	require.EqualValues(t, wire.Version, welcome.Version)
	require.Equal(t, "n1", welcome.Info["node"])
	require.Equal(t, limitRequests(7), welcome.Limits)
	require.Equal(t, []Client{{Conn: 1, Cluster: "demo"}}, w.server.Clients())
}

func TestStrangersAreRefusedWithAReason(t *testing.T) {
	w := newWorld(t, Config{})
	for name, test := range map[string]struct {
		said []byte
		code wire.Code
	}{
		"http request":        {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), wire.CodeMalformed},
		"tls hello":           {append([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01}, make([]byte, 512)...), wire.CodeMalformed},
		"wrong magic":         {append([]byte{0xc4, 12, 0x97, 0x00, 0xa4}, "isis\x01\x01\xa0\x80\x90"...), wire.CodeMalformed},
		"request first":       {request(1, "echo", ""), wire.CodeUnexpected},
		"huge hello":          {[]byte{0xc6, 0xff, 0xff, 0xff, 0xff}, wire.CodeTooLarge},
		"hello over limit":    {[]byte{0xc5, 0x40, 0x01}, wire.CodeTooLarge},
		"length bomb":         {frame(0xdd, 0xff, 0xff, 0xff, 0xff), wire.CodeMalformed},
		"future version only": {wire.AppendHello(nil, wire.Hello{Min: 2, Max: 9}), wire.CodeVersion},
		"past version only":   {wire.AppendHello(nil, wire.Hello{Min: 0, Max: 0}), wire.CodeVersion},
		"the node's own name": {hello("$node"), wire.CodeName},
		"required feature":    {wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1, Features: []string{"nice", "!must"}}), wire.CodeFeature},
		"long name":           {hello(strings.Repeat("n", 256)), wire.CodeName},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.raw()
			c.t = t
			c.send(test.said)
			c.expectRefuse(test.code)
		})
	}
	w.none()
	require.Empty(t, w.network.ports)
}

func TestSilenceEndsWithTheHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		silent := w.raw()
		began := time.Now()

		silent.expectRefuse(wire.CodeHandshakeTimeout)

		require.Equal(t, handshakeTime, time.Since(began))
		w.none()
	})
}

func TestOneByteASecondEndsWithTheHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		slow := w.raw()
		began := time.Now()
		go func() {
			for _, b := range hello(strings.Repeat("n", 100)) {
				if _, err := slow.conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()

		slow.expectRefuse(wire.CodeHandshakeTimeout)

		require.Equal(t, handshakeTime, time.Since(began))
		_ = slow.conn.Close()
		synctest.Wait()
		time.Sleep(time.Second)
	})
}

func TestSilentConnectionsDelayNobody(t *testing.T) {
	w := newWorld(t, Config{})
	for range 100 {
		w.raw()
	}
	w.attach("").echo(1)
}

func TestHandshakeTimeIsOverAfterTheWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		time.Sleep(handshakeTime + time.Second)
		c.echo(1)
	})
}

func TestServiceIsWelcomedWhenTheNetworkKnowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.joined = make(chan struct{})
		began := time.Now()
		time.AfterFunc(300*time.Millisecond, func() { close(w.network.joined) })

		w.attach("demo")

		require.Equal(t, 300*time.Millisecond, time.Since(began))
	})
}

func TestServiceIsWelcomedAfterASecondAtTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		w.network.joined = make(chan struct{})
		began := time.Now()

		w.attach("demo")

		require.Equal(t, joinTime, time.Since(began))
	})
}

func TestNetworkRefuses(t *testing.T) {
	w := newWorld(t, Config{})
	w.network.err = &wire.Error{Code: wire.CodeName, Text: "taken"}
	c := w.raw()
	c.send(hello("demo"))
	c.expectRefuse(wire.CodeName)

	w.network.err = errors.New("not now")
	c = w.raw()
	c.send(hello("demo"))
	c.expectRefuse(wire.CodeNotReady)
}

func TestClientKilledInTheHandshakeLeavesNothing(t *testing.T) {
	w := newWorld(t, Config{})
	said := hello("demo")
	for n := range said {
		c := w.raw()
		c.send(said[:n])
		c.kill()
	}
	w.none()
	require.Empty(t, w.network.ports)
}
