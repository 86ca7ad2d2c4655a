package iris_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
	"github.com/project-iris/iris/spec/wire"
)

func TestRequestIsAnswered(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{}, nil)
		reply, err := w.connect().Request(w.Context(), "echo", []byte("hello"))
		require.NoError(w, err)
		require.Equal(w, "hello", string(reply))
	})
}

func TestEmptyReplyAndEmptyErrorAreWhatTheyAre(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("empty", &handler{handle: func([]byte) ([]byte, error) { return nil, nil }}, nil)
		w.register("mute", &handler{handle: func([]byte) ([]byte, error) { return nil, errors.New("") }}, nil)
		conn := w.connect()

		reply, err := conn.Request(w.Context(), "empty", nil)
		require.NoError(w, err)
		require.Empty(w, reply)

		_, err = conn.Request(w.Context(), "mute", nil)
		var remote *iris.RemoteError
		require.ErrorAs(w, err, &remote)
		require.Empty(w, remote.Message)
	})
}

func TestErrorOfTheServiceArrivesWithItsText(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("broken", &handler{handle: func([]byte) ([]byte, error) { return nil, errors.New("out of paper") }}, nil)
		_, err := w.connect().Request(w.Context(), "broken", nil)
		var remote *iris.RemoteError
		require.ErrorAs(w, err, &remote)
		require.Equal(w, "out of paper", remote.Message)
		require.EqualError(w, err, `iris: request to "broken": the service failed: out of paper`)
	})
}

func TestUnknownClusterFailsAtOnce(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		began := time.Now()
		_, err := w.connect().Request(w.within(time.Minute), "nobody", nil)
		require.ErrorIs(w, err, iris.ErrNoService)
		require.EqualError(w, err, `iris: request to "nobody": no such service`)
		require.Zero(w, time.Since(began))
	})
}

func TestHeadersTravelWithTheRequest(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var got *iris.Request
		h := &contextHandler{serve: func(_ context.Context, r *iris.Request) ([]byte, error) {
			got = r
			return []byte("ok"), nil
		}, headers: map[string]string{"server-timing": "db;dur=53"}}
		w.register("traced", h, nil)
		headers := map[string]string{"traceparent": "00-1-2-01", "": "empty names are names"}
		reply, err := w.connect().Call(w.Context(), &iris.Request{Cluster: "traced", Payload: []byte("x"), Headers: headers})
		require.NoError(w, err)
		require.Equal(w, &iris.Reply{Payload: []byte("ok"), Headers: h.headers}, reply)
		require.Equal(w, &iris.Request{Cluster: "traced", Payload: []byte("x"), Headers: headers}, got)

		h.headers = map[string]string{"long": strings.Repeat("x", 17_000)}
		_, err = w.connect().Call(w.Context(), &iris.Request{Cluster: "traced"})
		var remote *iris.RemoteError
		require.ErrorAs(w, err, &remote)
		require.Contains(w, remote.Message, "the reply: too large")
	})
}

func TestDeadlineEndsARequest(t *testing.T) {
	for name, cfg := range map[string]fakenode.Config{
		"told by the node":               {},
		"although the node says nothing": {NoTimeouts: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, cfg, func(w *world) {
				g := newGate()
				w.register("slow", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}, nil)
				a := <-ask(w.within(300*time.Millisecond), w.connect(), "slow", nil)
				require.ErrorIs(w, a.err, iris.ErrTimeout)
				require.ErrorIs(w, a.err, context.DeadlineExceeded)
				require.Equal(w, 300*time.Millisecond, a.took)
				close(g.open)
			})
		})
	}
}

func TestHandlerThatStopsAtTheDeadlineMakesATimeout(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			<-ctx.Done()
			return nil, errors.New("stopped")
		}}
		s := w.register("work", h, nil)
		conn := w.connect()
		for range 100 {
			a := <-ask(w.within(time.Millisecond), conn, "work", nil)
			require.ErrorIs(w, a.err, iris.ErrTimeout)
		}
		require.NoError(w, s.Unregister())
	})
}

func TestRemainingBudgetTravels(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var left time.Duration
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			deadline, ok := ctx.Deadline()
			require.True(w, ok)
			left = time.Until(deadline)
			return nil, nil
		}}
		w.register("clock", h, nil)
		ctx := w.within(time.Second)
		time.Sleep(700*time.Millisecond + time.Microsecond)
		_, err := w.connect().Request(ctx, "clock", nil)
		require.NoError(w, err)
		require.Equal(w, 300*time.Millisecond, left, "what is left, rounded up to a millisecond")
	})
}

func TestRequestWithoutDeadlineHasNone(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			_, ok := ctx.Deadline()
			require.False(w, ok)
			time.Sleep(24 * time.Hour)
			return nil, nil
		}}
		w.register("patient", h, nil)
		_, err := w.connect().Request(w.Context(), "patient", nil)
		require.NoError(w, err)
	})
}

func TestPassedDeadlineSendsNothing(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{handle: func([]byte) ([]byte, error) { panic("was asked") }}, nil)
		ctx := w.within(time.Second)
		conn := w.connect()
		time.Sleep(2 * time.Second)
		_, err := conn.Request(ctx, "echo", nil)
		require.ErrorIs(w, err, iris.ErrTimeout)
		require.ErrorIs(w, err, context.DeadlineExceeded)
	})
}

func TestCancelReachesTheHandler(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		stopped := make(chan error, 1)
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			<-ctx.Done()
			stopped <- ctx.Err()
			return nil, ctx.Err()
		}}
		w.register("work", h, nil)
		ctx, cancel := context.WithCancel(w.Context())
		pending := ask(ctx, w.connect(), "work", nil)
		synctest.Wait()
		cancel()
		a := <-pending
		require.ErrorIs(w, a.err, iris.ErrCancelled)
		require.ErrorIs(w, a.err, context.Canceled)
		require.ErrorIs(w, <-stopped, context.Canceled)
	})
}

func TestRequestsBeyondTheLimitWaitForAPlace(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Requests = 3
	inWorld(t, fakenode.Config{Limits: limits}, func(w *world) {
		g := newGate()
		w.register("slow", &handler{handle: func(r []byte) ([]byte, error) { g.pass(); return r, nil }}, nil)
		conn := w.connect()
		var pending []<-chan answer
		for i := range 10 {
			pending = append(pending, ask(w.Context(), conn, "slow", []byte{byte(i)}))
			synctest.Wait()
		}
		require.Equal(w, 3, g.entered)
		late := <-ask(w.within(time.Second), conn, "slow", nil)
		require.ErrorIs(w, late.err, iris.ErrTimeout)
		require.Equal(w, time.Second, late.took)
		close(g.open)
		for i, p := range pending {
			a := <-p
			require.NoError(w, a.err)
			require.Equal(w, []byte{byte(i)}, a.reply)
		}
		require.Equal(w, 10, g.entered, "the late one was never sent")
	})
}

func TestPlaceOfACancelledRequestIsUsedAgain(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Requests = 1
	inWorld(t, fakenode.Config{Limits: limits}, func(w *world) {
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		w.register("work", h, nil)
		conn := w.connect()
		for range 100 {
			a := <-ask(w.within(time.Millisecond), conn, "work", nil)
			require.ErrorIs(w, a.err, iris.ErrTimeout)
		}
	})
}

func TestWhatExceedsALimitIsNotSent(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Payload, limits.Headers, limits.Name = 100, 50, 10
	inWorld(t, fakenode.Config{Limits: limits}, func(w *world) {
		conn := w.connect()
		many := map[string]string{}
		for i := range 65 {
			many[fmt.Sprint(i)] = ""
		}
		for _, r := range []iris.Request{
			{Cluster: "name", Payload: make([]byte, 101)},
			{Cluster: "name", Headers: map[string]string{"h": strings.Repeat("x", 50)}},
			{Cluster: "name", Headers: many},
			{Cluster: "elevenbytes"},
		} {
			_, err := conn.Call(w.Context(), &r)
			require.ErrorIs(w, err, iris.ErrTooLarge)
			require.ErrorContains(w, err, "limit")
		}
		for _, name := range []string{"", "\xff"} {
			_, err := conn.Request(w.Context(), name, nil)
			require.ErrorIs(w, err, iris.ErrInvalid)
		}
		_, err := conn.Request(w.Context(), "ten__bytes", make([]byte, 100))
		require.ErrorIs(w, err, iris.ErrNoService, "the limit itself is fine")
	})
}

func TestThousandInterleavedRequestsGetTheirOwnReplies(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{handle: func(r []byte) ([]byte, error) {
			time.Sleep(time.Duration(r[0]) * time.Millisecond)
			return r, nil
		}}, nil)
		conn := w.connect()
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				message := fmt.Appendf([]byte{byte(i * 7)}, "message %d", i)
				reply, err := conn.Request(w.Context(), "echo", message)
				if err != nil || string(reply) != string(message) {
					w.Errorf("request %d: %q, %v", i, reply, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestLargePayloadsCrossWhileSmallOnesDo(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{}, nil)
		conn := w.connect()
		large := []byte(strings.Repeat("0123456789abcdef", 1<<16))
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				message := large[:len(large)>>(i%8*2)]
				reply, err := conn.Request(w.Context(), "echo", message)
				if err != nil || string(reply) != string(message) {
					w.Errorf("request %d: %d bytes, %v", i, len(reply), err)
				}
			})
		}
		wg.Wait()
	})
}
