package iris_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

func TestUnregisterLetsRunningHandlersFinish(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var own *iris.Connection
		h := &handler{
			init: func(conn *iris.Connection) error { own = conn; return nil },
			handle: func(r []byte) ([]byte, error) {
				time.Sleep(3 * time.Second)
				return own.Request(w.Context(), "echo", r) // still possible
			},
		}
		s := w.register("slow", h, &iris.ServiceLimits{RequestThreads: 2})
		w.register("echo", &handler{}, nil)
		conn := w.connect()
		var pending []<-chan answer
		for range 4 { // two of them wait for a thread
			pending = append(pending, ask(w.Context(), conn, "slow", []byte("x")))
		}
		synctest.Wait()

		began := time.Now()
		require.NoError(w, s.Unregister())
		require.Equal(w, 6*time.Second, time.Since(began))
		for _, p := range pending {
			require.NoError(w, (<-p).err)
		}
		_, err := conn.Request(w.Context(), "slow", nil)
		require.ErrorIs(w, err, iris.ErrNoService)
		_, err = own.Request(w.Context(), "echo", nil)
		require.ErrorIs(w, err, iris.ErrClosed)
		require.EqualError(w, err, `iris: request to "echo": connection closed`)
	})
}

func TestNewRequestsGoElsewhereWhileAServiceDrains(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		s := w.register("work", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return []byte("old"), nil }}, nil)
		conn := w.connect()
		old := ask(w.Context(), conn, "work", nil)
		synctest.Wait()
		go func() { _ = s.Unregister() }()
		synctest.Wait()
		w.register("work", &handler{handle: func([]byte) ([]byte, error) { return []byte("new"), nil }}, nil)
		for range 10 {
			reply, err := conn.Request(w.Context(), "work", nil)
			require.NoError(w, err)
			require.Equal(w, "new", string(reply))
		}
		close(g.open)
		require.Equal(w, "old", string((<-old).reply))
	})
}

func TestUnregisterIsBoundedByTenSeconds(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		s := w.register("stuck", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}, nil)
		pending := ask(w.Context(), w.connect(), "stuck", nil)
		synctest.Wait()
		began := time.Now()
		err := s.Unregister()
		require.ErrorIs(w, err, iris.ErrTimeout)
		require.EqualError(w, err, `iris: unregister "stuck": handlers still run: timed out`)
		require.Equal(w, 10*time.Second, time.Since(began))
		require.ErrorIs(w, (<-pending).err, iris.ErrLost)
		require.NoError(w, s.Unregister(), "it is over")
		close(g.open)
	})
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		s := w.register("slow", &handler{handle: func([]byte) ([]byte, error) { time.Sleep(time.Minute); return nil, nil }}, nil)
		pending := ask(w.Context(), w.connect(), "slow", nil)
		synctest.Wait()
		require.NoError(w, s.Shutdown(w.within(2*time.Minute)))
		require.NoError(w, (<-pending).err)
	})
}

func TestUnregisterWithinAHandlerDoesNotWaitForItself(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var s *iris.Service
		var own *iris.Connection
		h := &handler{
			init: func(conn *iris.Connection) error { own = conn; return nil },
			handle: func(r []byte) ([]byte, error) {
				if string(r) == "close" {
					return []byte("bye"), own.Close()
				}
				return []byte("bye"), s.Unregister()
			},
		}
		for _, how := range []string{"unregister", "close"} {
			s = w.register("mortal", h, nil)
			conn := w.connect()
			a := <-ask(w.Context(), conn, "mortal", []byte(how))
			require.NoError(w, a.err)
			require.Equal(w, "bye", string(a.reply))
			require.Zero(w, a.took)
			require.NoError(w, s.Unregister(), "from outside it waits for the end")
			_, err := conn.Request(w.Context(), "mortal", nil)
			require.ErrorIs(w, err, iris.ErrNoService)
		}
	})
}

func TestUnregisterManyTimesAtOnce(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		h := &handler{
			handle: func([]byte) ([]byte, error) { time.Sleep(time.Second); return nil, nil },
			drop:   func(error) { w.Error("dropped") },
		}
		s := w.register("slow", h, nil)
		pending := ask(w.Context(), w.connect(), "slow", nil)
		synctest.Wait()
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := s.Unregister(); err != nil {
					w.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(w, time.Second, time.Since(began))
		require.NoError(w, (<-pending).err)
	})
}

func TestAbortEndsAtOnce(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		stopped := make(chan struct{})
		h := &contextHandler{serve: func(ctx context.Context, _ *iris.Request) ([]byte, error) {
			<-ctx.Done()
			close(stopped)
			return nil, nil
		}}
		h.drop = func(error) { w.Error("dropped") }
		s := w.register("work", h, nil)
		pending := ask(w.Context(), w.connect(), "work", nil)
		synctest.Wait()
		s.Abort()
		s.Abort()
		a := <-pending
		require.ErrorIs(w, a.err, iris.ErrLost)
		require.Zero(w, a.took)
		<-stopped
		require.NoError(w, s.Unregister())
	})
}

func TestAbortCutsUnregisterShort(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		s := w.register("stuck", &handler{handle: func([]byte) ([]byte, error) { g.pass(); return nil, nil }}, nil)
		ask(w.Context(), w.connect(), "stuck", nil)
		synctest.Wait()
		time.AfterFunc(time.Second, s.Abort)
		began := time.Now()
		require.NoError(w, s.Unregister())
		require.Equal(w, time.Second, time.Since(began))
		close(g.open)
	})
}
