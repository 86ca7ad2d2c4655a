package iris_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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

func TestAsManyHandlersRunAsWereAskedFor(t *testing.T) {
	for _, threads := range []int{1, 7, 300, 3000} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			inWorld(t, fakenode.Config{}, func(w *world) {
				g := newGate()
				h := &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}
				w.register("slow", h, &iris.ServiceLimits{RequestThreads: threads, RequestQueue: 20})
				conn := w.connect()
				var pending []<-chan answer
				for range threads + 20 {
					pending = append(pending, ask(w.Context(), conn, "slow", nil))
				}
				synctest.Wait()
				require.Equal(w, threads, g.inside)
				a := <-ask(w.Context(), conn, "slow", nil)
				require.ErrorIs(w, a.err, iris.ErrOverloaded, "no credit is left")
				close(g.open)
				for _, p := range pending {
					require.NoError(w, (<-p).err)
				}
				require.Equal(w, threads, g.most)
			})
		})
	}
}

func TestEveryThreadStaysInUseWithoutAQueue(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		h := &handler{handle: func(r []byte) ([]byte, error) {
			if len(r) > 0 {
				g.pass()
			}
			return nil, nil
		}}
		w.register("slow", h, &iris.ServiceLimits{RequestThreads: 5, RequestQueue: -1})
		conn := w.connect()
		for range 50 { // credit that was used and granted again
			_, err := conn.Request(w.Context(), "slow", nil)
			require.NoError(w, err)
		}
		for range 5 {
			ask(w.Context(), conn, "slow", []byte("stay"))
		}
		synctest.Wait()
		require.Equal(w, 5, g.inside)
		close(g.open)
	})
}

func TestHeldBytesAreBounded(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		h := &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}
		w.register("slow", h, &iris.ServiceLimits{RequestMemory: 100_000})
		conn := w.connect()
		var pending []<-chan answer
		for range 5000 { // more often than there is credit
			pending = append(pending, ask(w.Context(), conn, "slow", make([]byte, 1000)))
		}
		synctest.Wait()
		require.Equal(w, 100, g.inside)
		close(g.open)
		answered, overloaded, failed := 0, 0, 0
		for _, p := range pending {
			var remote *iris.RemoteError
			switch err := (<-p).err; {
			case err == nil:
				answered++
			case errors.Is(err, iris.ErrOverloaded):
				overloaded++
			case errors.As(err, &remote):
				require.Contains(w, remote.Message, "not executed")
				failed++
			}
		}
		require.GreaterOrEqual(w, answered, 100)
		require.Equal(w, 5000, answered+overloaded+failed)
		require.Less(w, failed, 2000, "only what was granted before")
	})
}

func TestOneRequestAloneMayExceedTheMemory(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("echo", &handler{}, &iris.ServiceLimits{RequestThreads: 2, RequestMemory: 10})
		conn := w.connect()
		for range 100 {
			reply, err := conn.Request(w.Context(), "echo", make([]byte, 5000))
			require.NoError(w, err)
			require.Len(w, reply, 5000)
		}
	})
}

func TestCreditFollowsTheSizeOfRequests(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		h := &handler{handle: func([]byte) ([]byte, error) { time.Sleep(time.Millisecond); return nil, nil }}
		w.register("slow", h, &iris.ServiceLimits{RequestThreads: 100, RequestQueue: -1, RequestMemory: 100_000})
		conn := w.connect()
		burst := func(size int) (answered, failed int) {
			var pending []<-chan answer
			for range 200 {
				pending = append(pending, ask(w.Context(), conn, "slow", make([]byte, size)))
			}
			for _, p := range pending {
				var remote *iris.RemoteError
				switch err := (<-p).err; {
				case err == nil:
					answered++
				case errors.As(err, &remote):
					failed++
				}
			}
			return answered, failed
		}
		for range 10 {
			burst(10_000)
		}
		answered, failed := burst(10_000)
		require.GreaterOrEqual(w, answered, 5)
		require.LessOrEqual(w, failed, 10, "large ones are granted less")
		for range 10 {
			burst(10)
		}
		answered, failed = burst(10)
		require.GreaterOrEqual(w, answered, 100, "and small ones all again")
		require.Zero(w, failed)
	})
}

func TestThousandNestedRequests(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("inner", &handler{}, nil)
		var own *iris.Connection
		outer := &handler{
			init: func(conn *iris.Connection) error { own = conn; return nil },
			handle: func(r []byte) ([]byte, error) {
				return own.Request(context.Background(), "inner", r)
			},
		}
		w.register("outer", outer, nil)
		conn := w.connect()
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				message := fmt.Sprint(i)
				reply, err := conn.Request(w.Context(), "outer", []byte(message))
				if err != nil || string(reply) != message {
					w.Errorf("request %d: %q, %v", i, reply, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestRepliesPassHandlersThatAreStuck(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		var own *iris.Connection
		h := &handler{
			init:   func(conn *iris.Connection) error { own = conn; return nil },
			handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil },
		}
		w.register("stuck", h, &iris.ServiceLimits{RequestThreads: 2, RequestQueue: 10})
		w.register("echo", &handler{}, nil)
		conn := w.connect()
		for range 12 {
			ask(w.Context(), conn, "stuck", nil)
		}
		synctest.Wait()
		_, err := own.Request(w.within(time.Second), "echo", nil)
		require.NoError(w, err)
		w.node.Inject(wire.AppendPing(nil, 7))
		synctest.Wait()
		require.Equal(w, 3, w.node.Pongs(), "all three connections answer")
		close(g.open)
	})
}

func TestPanicFailsOneRequest(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		h := &handler{handle: func(r []byte) ([]byte, error) {
			switch string(r) {
			case "panic":
				panic("secret")
			case "exit":
				runtime.Goexit()
			}
			return r, nil
		}}
		w.register("fragile", h, &iris.ServiceLimits{RequestThreads: 1, RequestQueue: -1})
		conn := w.connect()
		for range 5 {
			for _, message := range []string{"panic", "exit"} {
				_, err := conn.Request(w.Context(), "fragile", []byte(message))
				var remote *iris.RemoteError
				require.ErrorAs(w, err, &remote)
				require.NotContains(w, remote.Message, "secret")
			}
			reply, err := conn.Request(w.Context(), "fragile", []byte("fine"))
			require.NoError(w, err)
			require.Equal(w, "fine", string(reply))
		}
	})
}

func TestReplyBeyondTheLimitIsAnErrorOfTheService(t *testing.T) {
	limits := wire.DefaultLimits()
	limits.Payload = 1000
	inWorld(t, fakenode.Config{Limits: limits}, func(w *world) {
		w.register("wordy", &handler{handle: func(r []byte) ([]byte, error) {
			if len(r) > 0 {
				return nil, errors.New(strings.Repeat("\xff", 1<<20))
			}
			return make([]byte, 1001), nil
		}}, nil)
		for _, payload := range []string{"", "x"} {
			_, err := w.connect().Request(w.Context(), "wordy", []byte(payload))
			var remote *iris.RemoteError
			require.ErrorAs(w, err, &remote)
		}
	})
}

func TestCancelledAndExpiredRequestsNeverRunFromTheQueue(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		h := &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}
		w.register("slow", h, &iris.ServiceLimits{RequestThreads: 1})
		conn := w.connect()
		first := ask(w.Context(), conn, "slow", nil)
		synctest.Wait()
		ctx, cancel := context.WithCancel(w.Context())
		cancelled := ask(ctx, conn, "slow", nil)
		expired := ask(w.within(time.Second), conn, "slow", nil)
		synctest.Wait()
		cancel()
		require.ErrorIs(w, (<-cancelled).err, iris.ErrCancelled)
		require.ErrorIs(w, (<-expired).err, iris.ErrTimeout)
		close(g.open)
		require.NoError(w, (<-first).err)
		synctest.Wait()
		require.Equal(w, 1, g.entered)
	})
}

func TestInitMayRequestAndComesBeforeRequests(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("config", &handler{}, nil)
		conn := w.connect()
		ready := false
		h := &handler{
			init: func(own *iris.Connection) error {
				reply, err := own.Request(w.Context(), "config", []byte("value"))
				require.Equal(w, "value", string(reply))
				_, early := conn.Request(w.Context(), "service", nil)
				require.ErrorIs(w, early, iris.ErrNoService)
				ready = true
				return err
			},
			handle: func([]byte) ([]byte, error) { require.True(w, ready); return nil, nil },
		}
		w.register("service", h, nil)
		_, err := conn.Request(w.Context(), "service", nil)
		require.NoError(w, err)
	})
}

func TestErrorOfInitFailsRegister(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		broken := errors.New("no disk")
		h := &handler{
			init: func(*iris.Connection) error { return broken },
			drop: func(error) { w.Error("dropped") },
		}
		_, err := iris.Register(1, "service", h, nil, w.options(nil)...)
		require.ErrorIs(w, err, broken)
		require.EqualError(w, err, `iris: register "service" at port 1: init: no disk`)
		synctest.Wait()
		require.Zero(w, w.node.Attached())
	})
}

func TestRegisterNeedsAName(t *testing.T) {
	_, err := iris.Register(1, "", &handler{}, nil)
	require.ErrorIs(t, err, iris.ErrInvalid)
}
