package iris_test

import (
	"context"
	"encoding/binary"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
)

func TestNothingPublishedAfterSubscribeIsLost(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		var got atomic.Int64
		for i := range 200 {
			topic := strconv.Itoa(i)
			require.NoError(w, conn.Subscribe(w.Context(), topic, topicFunc(func([]byte) { got.Add(1) }), nil))
			require.NoError(w, conn.Publish(w.Context(), topic, []byte("x")))
		}
		synctest.Wait()
		require.EqualValues(w, 200, got.Load())
	})
}

func TestEventsOfOnePublisherComeInTheirOrder(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var got []uint32
		h := topicFunc(func(e []byte) { got = append(got, binary.BigEndian.Uint32(e)) })
		require.NoError(w, w.connect().Subscribe(w.Context(), "t", h, nil))
		conn := w.connect()
		for i := range 50_000 {
			require.NoError(w, conn.Publish(w.Context(), "t", binary.BigEndian.AppendUint32(nil, uint32(i))))
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		require.Len(w, got, 50_000, "credit came back")
		for i, n := range got {
			require.EqualValues(w, i, n)
		}
		require.Zero(w, w.node.Dropped())
	})
}

func TestSubscribingAndUnsubscribingTwiceFailsAndTheConnectionGoesOn(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		h := topicFunc(func([]byte) {})
		for range 200 {
			require.NoError(w, conn.Subscribe(w.Context(), "t", h, nil))
			require.ErrorIs(w, conn.Subscribe(w.Context(), "t", h, nil), iris.ErrInvalid)
			require.NoError(w, conn.Unsubscribe(w.Context(), "t"))
			require.ErrorIs(w, conn.Unsubscribe(w.Context(), "t"), iris.ErrInvalid)
		}
		require.Equal(w, 1, w.node.Hellos(""))
		require.Zero(w, w.node.Subscribers("t"))
	})
}

func TestUnsubscribeWithinAHandlerDoesNotDeadlock(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		calls := 0
		var err error
		h := topicFunc(func([]byte) { calls++; err = conn.Unsubscribe(w.Context(), "t") })
		require.NoError(w, conn.Subscribe(w.Context(), "t", h, nil))
		for range 100 {
			require.NoError(w, conn.Publish(w.Context(), "t", nil))
		}
		synctest.Wait()
		require.NoError(w, err)
		require.Equal(w, 1, calls, "no other call starts")
	})
}

func TestCloseWithinATopicsHandlerDoesNotDeadlock(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		closed := make(chan error, 1)
		require.NoError(w, conn.Subscribe(w.Context(), "t", topicFunc(func([]byte) { closed <- conn.Close() }), nil))
		require.NoError(w, conn.Publish(w.Context(), "t", nil))
		require.NoError(w, <-closed)
	})
}

func TestSubscriptionsAreMadeAgainOnceBeforeRequestsGoOn(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		var got atomic.Int64
		for i := range 10 {
			require.NoError(w, conn.Subscribe(w.Context(), strconv.Itoa(i), topicFunc(func([]byte) { got.Add(1) }), nil))
		}
		require.NoError(w, conn.Unsubscribe(w.Context(), "9"))
		w.node.Kill()
		time.Sleep(time.Second)
		require.NoError(w, conn.Unsubscribe(w.Context(), "8"), "nobody is to be told")
		w.node.Start()
		for i := range 10 { // they wait
			require.NoError(w, conn.Publish(w.Context(), strconv.Itoa(i), nil))
		}
		synctest.Wait()
		require.EqualValues(w, 8, got.Load())
		require.Equal(w, 18, w.node.Subscribes())
	})
}

func TestSubscribeInFlightIsLostWithTheNode(t *testing.T) {
	inWorld(t, fakenode.Config{NoDone: true}, func(w *world) {
		conn := w.connect()
		h := topicFunc(func([]byte) {})
		time.AfterFunc(time.Second, w.node.Drop)
		require.ErrorIs(w, conn.Subscribe(w.Context(), "t", h, nil), iris.ErrLost)
		time.Sleep(time.Second)
		require.Zero(w, w.node.Subscribers("t"))
		require.ErrorIs(w, conn.Subscribe(w.within(time.Second), "t", h, nil), iris.ErrTimeout)
		synctest.Wait()
		require.Zero(w, w.node.Subscribers("t"), "it was taken back")
	})
}

func TestSlowHandlerTakesNothingFromOtherTopics(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		g := newGate()
		var got atomic.Int64
		require.NoError(w, conn.Subscribe(w.Context(), "slow", topicFunc(func([]byte) { g.pass() }), nil))
		require.NoError(w, conn.Subscribe(w.Context(), "fast", topicFunc(func([]byte) { got.Add(1) }), nil))
		for i := range 60_000 {
			require.NoError(w, conn.Publish(w.Context(), "slow", nil))
			require.NoError(w, conn.Publish(w.Context(), "fast", nil))
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		require.EqualValues(w, 60_000, got.Load())
		require.Zero(w, w.node.Dropped(), "the slow one's were dropped here")
		close(g.open)
		synctest.Wait()
		require.Equal(w, 16_384, g.entered, "its share")
	})
}

func TestSlowHandlersEventsAreDroppedByTheNodeWhereNobodyElseSubscribes(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		g := newGate()
		require.NoError(w, conn.Subscribe(w.Context(), "slow", topicFunc(func([]byte) { g.pass() }), nil))
		for range 20_000 {
			require.NoError(w, conn.Publish(w.Context(), "slow", nil))
		}
		synctest.Wait()
		require.Equal(w, 20_000-16_384, w.node.Dropped())
		close(g.open)
		synctest.Wait()
		require.Equal(w, 16_384, g.entered)
		require.NoError(w, conn.Publish(w.Context(), "slow", nil))
		synctest.Wait()
		require.Equal(w, 16_385, g.entered, "credit came back")
	})
}

func TestHeldEventsAreBoundedInBytes(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		g := newGate()
		require.NoError(w, conn.Subscribe(w.Context(), "t", topicFunc(func([]byte) { g.pass() }), &iris.TopicLimits{EventMemory: 100_000}))
		for range 500 {
			require.NoError(w, conn.Publish(w.Context(), "t", make([]byte, 1000)))
		}
		synctest.Wait()
		close(g.open)
		synctest.Wait()
		require.Equal(w, 100, g.entered)
	})
}

func TestHandlerOfEventsMayPanicAndEndItsGoroutine(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		calls := 0
		require.NoError(w, conn.Subscribe(w.Context(), "t", topicFunc(func([]byte) {
			if calls++; calls%2 == 0 {
				panic("oops")
			}
		}), nil))
		for range 10 {
			require.NoError(w, conn.Publish(w.Context(), "t", nil))
		}
		synctest.Wait()
		require.Equal(w, 10, calls)
	})
}

func TestEventThreadsRunAtOnce(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		g := newGate()
		require.NoError(w, conn.Subscribe(w.Context(), "t", topicFunc(func([]byte) { g.pass() }), &iris.TopicLimits{EventThreads: 7}))
		for range 20 {
			require.NoError(w, conn.Publish(w.Context(), "t", nil))
		}
		synctest.Wait()
		require.Equal(w, 7, g.inside)
		close(g.open)
		synctest.Wait()
		require.Equal(w, 20, g.entered)
	})
}

func TestBroadcastReachesAllMembersInOrder(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var got [3][]byte
		for i := range got {
			w.register("all", &handler{broadcast: func(m []byte) { got[i] = append(got[i], m...) }}, nil)
		}
		conn := w.connect()
		var want []byte
		for i := range 100 {
			want = append(want, byte(i))
			require.NoError(w, conn.Broadcast(w.Context(), "all", []byte{byte(i)}))
		}
		synctest.Wait()
		for i := range got {
			require.Equal(w, want, got[i])
		}
		require.NoError(w, conn.Broadcast(w.Context(), "nobody", nil))
	})
}

func TestUnregisterHandlesTheBroadcastsThatWereTaken(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		handled := 0
		s := w.register("all", &handler{broadcast: func([]byte) { time.Sleep(100 * time.Millisecond); handled++ }}, nil)
		conn := w.connect()
		for range 20 {
			require.NoError(w, conn.Broadcast(w.Context(), "all", nil))
		}
		synctest.Wait()
		began := time.Now()
		require.NoError(w, s.Unregister())
		require.Equal(w, 2*time.Second, time.Since(began))
		require.Equal(w, 20, handled)
	})
}

func TestWhatExceedsALimitIsNotPublished(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		require.ErrorIs(w, conn.Publish(w.Context(), "t", make([]byte, 2<<20)), iris.ErrTooLarge)
		require.ErrorIs(w, conn.Broadcast(w.Context(), "", nil), iris.ErrInvalid)
		require.ErrorIs(w, conn.Subscribe(w.Context(), "\xff", topicFunc(func([]byte) {}), nil), iris.ErrInvalid)
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		require.ErrorIs(w, conn.Publish(ctx, "t", nil), iris.ErrCancelled)
		require.NoError(w, conn.Close())
		require.EqualError(w, conn.Publish(w.Context(), "t", nil), `iris: publish to "t": connection closed`)
	})
}

func TestUnsubscribeNeverOvertakesSubscribe(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		h := topicFunc(func([]byte) {})
		for range 500 {
			ctx, cancel := context.WithCancel(w.Context())
			go cancel() // before, while or after it is told
			if conn.Subscribe(ctx, "t", h, nil) == nil {
				require.Equal(w, 1, w.node.Subscribers("t"))
				require.NoError(w, conn.Unsubscribe(w.Context(), "t"))
			}
		}
		require.NoError(w, conn.Subscribe(w.Context(), "t", h, nil))
		require.Equal(w, 1, w.node.Subscribers("t"))
		require.Equal(w, 1, w.node.Hellos(""))
	})
}
