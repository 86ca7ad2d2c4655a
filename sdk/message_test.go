package iris_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
	"github.com/project-iris/iris/spec/wire"
)

// An eventRecorder keeps the whole of what it gets.
type eventRecorder struct{ got []iris.Message }

func (r *eventRecorder) HandleEvent([]byte)                 { panic("HandleEventMessage is called instead") }
func (r *eventRecorder) HandleEventMessage(m *iris.Message) { r.got = append(r.got, *m) }

// A broadcastRecorder keeps the whole of what it gets.
type broadcastRecorder struct {
	handler
	got []iris.Message
}

func (r *broadcastRecorder) HandleBroadcast([]byte) {
	panic("HandleBroadcastMessage is called instead")
}
func (r *broadcastRecorder) HandleBroadcastMessage(m *iris.Message) { r.got = append(r.got, *m) }

var trace = map[string]string{"traceparent": "00-1-2-01", "": "empty names are names"}

func TestHeadersTravelWithAnEvent(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		r := new(eventRecorder)
		var plain []string
		conn, other := w.connect(), w.connect()
		require.NoError(w, conn.Subscribe(w.Context(), "t", r, nil))
		require.NoError(w, other.Subscribe(w.Context(), "t", topicFunc(func(e []byte) { plain = append(plain, string(e)) }), nil))
		require.NoError(w, conn.Publish(w.Context(), "t", []byte("with"), iris.WithHeaders(trace)))
		require.NoError(w, conn.Publish(w.Context(), "t", []byte("without")))
		synctest.Wait()
		require.Equal(w, []iris.Message{{Payload: []byte("with"), Headers: trace}, {Payload: []byte("without")}}, r.got)
		require.Equal(w, []string{"with", "without"}, plain)
		require.Equal(w, 4, cap(r.got[0].Payload), "to append to a payload harms no headers")
	})
}

func TestHeadersTravelWithABroadcast(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		r := new(broadcastRecorder)
		var plain []string
		w.register("all", r, nil)
		w.register("all", &handler{broadcast: func(m []byte) { plain = append(plain, string(m)) }}, nil)
		conn := w.connect()
		require.NoError(w, conn.Broadcast(w.Context(), "all", []byte("with"), iris.WithHeaders(trace)))
		require.NoError(w, conn.Broadcast(w.Context(), "all", []byte("without"), iris.WithHeaders(nil)))
		synctest.Wait()
		require.Equal(w, []iris.Message{{Payload: []byte("with"), Headers: trace}, {Payload: []byte("without")}}, r.got)
		require.Equal(w, []string{"with", "without"}, plain)
	})
}

func TestHeadersTravelWithATunnel(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		got := make(chan map[string]string, 2)
		w.register("peer", &handler{tunnel: func(t *iris.Tunnel) { got <- t.Headers() }}, nil)
		conn := w.connect()
		for _, headers := range []map[string]string{trace, nil} {
			tunnel, err := conn.Tunnel(w.Context(), "peer", iris.WithHeaders(headers))
			require.NoError(w, err)
			require.Equal(w, headers, <-got)
			require.Nil(w, tunnel.Headers(), "a service of this binding sends none")
			require.NoError(w, tunnel.Close())
		}
	})
}

func TestOpenerSeesTheHeadersOfWhoAccepts(t *testing.T) {
	inWorld(t, fakenode.Config{Opened: wire.EncodeHeaders(trace)}, func(w *world) {
		tunnel := w.tunnelTo(echo)
		require.Equal(w, trace, tunnel.Headers())
		delete(tunnel.Headers(), "")
		require.Equal(w, trace, tunnel.Headers(), "the map is the caller's own")
		require.NoError(w, tunnel.Close())
	})
}

func TestHeadersGivenTwiceAddUp(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		r := new(eventRecorder)
		conn := w.connect()
		require.NoError(w, conn.Subscribe(w.Context(), "t", r, nil))
		first, second := map[string]string{"a": "1", "b": "1"}, map[string]string{"b": "2", "c": "2"}
		require.NoError(w, conn.Publish(w.Context(), "t", nil, iris.WithHeaders(first), iris.WithHeaders(second)))
		synctest.Wait()
		require.Equal(w, map[string]string{"a": "1", "b": "2", "c": "2"}, r.got[0].Headers)
		require.Equal(w, map[string]string{"a": "1", "b": "1"}, first, "nobody's map is changed")
	})
}

func TestHeadersBeyondALimitAreNotSent(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Headers = 1000
	many := map[string]string{}
	for i := range wire.MaxHeaders + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, headers := range map[string]map[string]string{
		"65 headers, the limit is 64": many,
		"bytes, the limit is 1000":    {"h": strings.Repeat("x", 1000)},
	} {
		inWorld(t, fakenode.Config{Limits: limits}, func(w *world) {
			opened := 0
			r := new(broadcastRecorder)
			r.tunnel = func(*iris.Tunnel) { opened++ }
			w.register("name", r, nil)
			events := new(eventRecorder)
			conn := w.connect()
			require.NoError(w, conn.Subscribe(w.Context(), "name", events, nil))
			_, err := conn.Tunnel(w.Context(), "name", iris.WithHeaders(headers))
			for verb, err := range map[string]error{
				"tunnel to":    err,
				"broadcast to": conn.Broadcast(w.Context(), "name", nil, iris.WithHeaders(headers)),
				"publish to":   conn.Publish(w.Context(), "name", nil, iris.WithHeaders(headers)),
			} {
				require.ErrorIs(w, err, iris.ErrTooLarge)
				require.ErrorContains(w, err, fmt.Sprintf("iris: %s %q: too large: ", verb, "name"))
				require.ErrorContains(w, err, name)
			}
			synctest.Wait()
			require.Zero(w, opened+len(r.got)+len(events.got))
			require.Equal(w, 1, w.node.Hellos(""), "the connection goes on")
		})
	}
}

func TestHeadersCountAgainstTheMemory(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		g := newGate()
		h := topicFunc(func([]byte) { g.pass() })
		require.NoError(w, conn.Subscribe(w.Context(), "t", h, &iris.TopicLimits{EventMemory: 10_000}))
		big := iris.WithHeaders(map[string]string{"h": strings.Repeat("x", 3000)})
		for range 10 {
			require.NoError(w, conn.Publish(w.Context(), "t", nil, big))
		}
		synctest.Wait()
		close(g.open)
		synctest.Wait()
		require.Equal(w, 3, g.entered)
		for range 3 {
			require.NoError(w, conn.Publish(w.Context(), "t", nil, big))
		}
		synctest.Wait()
		require.Equal(w, 6, g.entered, "what was handled is not counted any more")
	})
}
