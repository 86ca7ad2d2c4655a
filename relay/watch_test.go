package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/wire"
)

func TestSilentClientIsPingedThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		began := time.Now()

		c.expect(wire.OpPing)

		require.InDelta(t, silence, time.Since(began), float64(2*watchInterval))
		c.expectBye(wire.CodeUnresponsive)
		require.InDelta(t, 2*silence, time.Since(began), float64(2*watchInterval))
		w.none()
		require.Equal(t, 1, w.network.port(0).count(func(p *fakePort) int { return p.closes }))
	})
}

func TestClientThatAnswersPingsStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		for range 20 {
			token, err := wire.ParsePing(c.expect(wire.OpPing))
			require.NoError(t, err)
			c.send(wire.AppendPong(nil, token))
		}
		c.echo(1)
	})
}

func TestBusyClientIsNotPinged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		for id := range uint64(60) {
			c.echo(id)
			time.Sleep(time.Second)
		}
	})
}

func TestClientThatDoesNotReadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		c.send(request(1, "echo", "never read"))
		began := time.Now()

		for len(w.server.all()) > 0 {
			time.Sleep(watchInterval)
			if len(w.server.all()) > 0 {
				_, _ = c.conn.Write(wire.AppendPong(nil, 1)) // it is not silent
			}
		}

		require.InDelta(t, maxStall+flushTime, time.Since(began), float64(3*watchInterval))
	})
}

func TestClientAtRestGivesBackWhatItsBusyTimesNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPipeWorld(t, Config{})
		c := w.attach("")
		c.echo(1)
		session := w.network.port(0).session
		held := func() bool {
			session.mu.Lock()
			defer session.mu.Unlock()
			return session.unanswered != nil
		}
		require.True(t, held())
		c.expect(wire.OpPing)
		require.False(t, held())
		c.echo(1)
	})
}
