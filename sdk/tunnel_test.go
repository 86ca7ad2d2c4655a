package iris_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
	"github.com/project-iris/iris/sdk/internal/fakenode"
	"github.com/project-iris/iris/spec/wire"
)

// echo sends back what it receives until the other side finishes.
func echo(t *iris.Tunnel) {
	for {
		m, err := t.Recv(context.Background())
		if err != nil || t.Send(context.Background(), m) != nil {
			return
		}
	}
}

// tunnelTo opens a tunnel to a service with a handler.
func (w *world) tunnelTo(handle func(*iris.Tunnel)) *iris.Tunnel {
	w.Helper()
	w.register("peer", &handler{tunnel: handle}, nil)
	t, err := w.connect().Tunnel(w.Context(), "peer")
	require.NoError(w, err)
	return t
}

func TestTunnelCarriesMessagesOfAnySizeBothWays(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(echo)
		for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 131_072, 5 << 20} {
			message := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			sent := make(chan error, 1)
			go func() { sent <- tunnel.Send(w.Context(), message) }()
			reply, err := tunnel.Recv(w.Context())
			require.NoError(w, err)
			require.NoError(w, <-sent)
			require.True(w, bytes.Equal(message, reply), size)
		}
		require.NoError(w, tunnel.Close())
		synctest.Wait()
		require.Zero(w, w.node.Tunnels())
	})
}

func TestCloseDeliversEverythingThatWasSent(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var got []string
		var end error
		handle := func(t *iris.Tunnel) {
			for {
				m, err := t.Recv(context.Background())
				if err != nil {
					end = err
					return
				}
				got = append(got, string(m))
				time.Sleep(time.Millisecond)
			}
		}
		tunnel := w.tunnelTo(handle)
		for i := range 1000 {
			require.NoError(w, tunnel.Send(w.Context(), fmt.Append(nil, i)))
		}
		require.NoError(w, tunnel.Close())
		require.NoError(w, tunnel.Close())
		synctest.Wait()
		require.Equal(w, io.EOF, end)
		require.Len(w, got, 1000)
		for i, m := range got {
			require.Equal(w, fmt.Sprint(i), m)
		}
	})
}

func TestCloseDeliversEverythingToASideThatAnswers(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		got := 0
		handle := func(t *iris.Tunnel) {
			for {
				m, err := t.Recv(context.Background())
				if err != nil {
					return
				}
				got++
				_ = t.Send(context.Background(), m)
			}
		}
		tunnel := w.tunnelTo(handle)
		for range 12 { // more than the windows hold
			require.NoError(w, tunnel.Send(w.Context(), make([]byte, 60_000)))
		}
		began := time.Now()
		require.NoError(w, tunnel.Close())
		require.Zero(w, time.Since(began))
		synctest.Wait()
		require.Equal(w, 12, got)
		require.Zero(w, w.node.Tunnels())
	})
}

func TestSendAfterTheOtherSideClosedFails(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		var sent atomic.Int64
		failed := make(chan error, 1)
		handle := func(t *iris.Tunnel) {
			for {
				if err := t.Send(context.Background(), []byte("x")); err != nil {
					failed <- err
					return
				}
				sent.Add(1)
				time.Sleep(time.Millisecond)
			}
		}
		tunnel := w.tunnelTo(handle)
		_, e := tunnel.Recv(w.Context())
		require.NoError(w, e)
		require.NoError(w, tunnel.Close())
		before := sent.Load()
		require.ErrorIs(w, <-failed, iris.ErrClosed)
		require.LessOrEqual(w, sent.Load(), before+1)
		require.ErrorIs(w, tunnel.Send(w.Context(), nil), iris.ErrClosed)
		_, e = tunnel.Recv(w.Context())
		require.ErrorIs(w, e, iris.ErrClosed)
	})
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(func(t *iris.Tunnel) {
			n := 0
			for {
				m, err := t.Recv(context.Background())
				if err != nil {
					break
				}
				n += len(m)
			}
			_ = t.Send(context.Background(), fmt.Append(nil, n))
		})
		require.NoError(w, tunnel.Send(w.Context(), make([]byte, 2<<20)))
		require.NoError(w, tunnel.CloseSend())
		require.NoError(w, tunnel.CloseSend())
		m, err := tunnel.Recv(w.Context())
		require.NoError(w, err)
		require.Equal(w, "2097152", string(m))
		_, err = tunnel.Recv(w.Context())
		require.Equal(w, io.EOF, err)
		require.ErrorIs(w, tunnel.Send(w.Context(), nil), iris.ErrClosed)
	})
}

func TestSenderWaitsForTheReceiver(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		g := newGate()
		tunnel := w.tunnelTo(func(t *iris.Tunnel) { g.pass(); echo(t) })
		n := 0
		for tunnel.Send(w.within(time.Second), make([]byte, 1000)) == nil {
			n++
		}
		require.Equal(w, 1<<20/1064, n, "the window")
		require.NoError(w, w.connect().Publish(w.Context(), "t", nil), "nothing else waits")
		close(g.open)
		for range n {
			_, err := tunnel.Recv(w.Context())
			require.NoError(w, err, "a Send that waited in vain left the tunnel whole")
		}
		require.NoError(w, tunnel.Close())
	})
}

func TestContextThatEndsWithinAMessageBreaksTheTunnel(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		ended := make(chan error, 1)
		tunnel := w.tunnelTo(func(t *iris.Tunnel) {
			time.Sleep(2 * time.Second)
			_, err := t.Recv(context.Background())
			ended <- err
		})
		require.ErrorIs(w, tunnel.Send(w.within(time.Second), make([]byte, 1<<20)), iris.ErrTimeout)
		require.ErrorIs(w, tunnel.Send(w.Context(), nil), iris.ErrClosed)
		require.ErrorIs(w, <-ended, iris.ErrCancelled)
	})
}

func TestAbortTellsTheReason(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(func(t *iris.Tunnel) { _ = t.Abort("out of paper") })
		_, received := tunnel.Recv(w.Context())
		for _, err := range []error{received, tunnel.Send(w.Context(), nil), tunnel.Close()} {
			require.EqualError(w, err, `iris: tunnel to "peer": aborted: out of paper`)
			var remote *iris.RemoteError
			require.ErrorAs(w, err, &remote)
			require.Equal(w, "out of paper", remote.Message)
		}
		require.NoError(w, tunnel.Abort(""))
	})
}

func TestAbortWithoutAReasonClosesTheTunnel(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(func(t *iris.Tunnel) { _ = t.Abort("") })
		_, err := tunnel.Recv(w.Context())
		require.ErrorIs(w, err, iris.ErrClosed)
		require.EqualError(w, err, `iris: tunnel to "peer": connection closed: the other side ended the tunnel`)
	})
}

func TestTunnelThatIsRefusedTellsTheReason(t *testing.T) {
	inWorld(t, fakenode.Config{Refusal: "closed on Sundays"}, func(w *world) {
		_, err := w.connect().Tunnel(w.Context(), "peer")
		require.EqualError(w, err, `iris: tunnel to "peer": aborted: closed on Sundays`)
		var remote *iris.RemoteError
		require.ErrorAs(w, err, &remote)
		require.Equal(w, "closed on Sundays", remote.Message)
	})
}

// half is a whole message and a part of another for the first tunnel of a client.
func half() []byte {
	b := wire.AppendData(nil, wire.Data{ID: 1, Last: true, Payload: []byte("whole")})
	return wire.AppendData(b, wire.Data{ID: 1, Payload: []byte("half")})
}

func TestFinishWithinAMessageAbortsTheTunnel(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		ended := make(chan error, 1)
		tunnel := w.tunnelTo(func(t *iris.Tunnel) {
			_, err := t.Recv(context.Background())
			ended <- err
		})
		w.node.Inject(wire.AppendFinish(half(), 1))
		require.EqualError(w, <-ended, "iris: tunnel of a client: aborted: a finish in the middle of a message")
		m, err := tunnel.Recv(w.Context())
		require.NoError(w, err, "what came whole comes first")
		require.Equal(w, "whole", string(m))
		_, err = tunnel.Recv(w.Context())
		require.ErrorIs(w, err, io.ErrUnexpectedEOF)
		require.ErrorIs(w, tunnel.Send(w.Context(), nil), io.ErrUnexpectedEOF)
		require.ErrorIs(w, tunnel.Close(), io.ErrUnexpectedEOF)
		require.Zero(w, w.node.Tunnels())
	})
}

func TestFinishWithinAMessageThatRecvHasBegunAbortsTheTunnel(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(echo)
		w.node.Inject(half())
		_, err := tunnel.Recv(w.Context())
		require.NoError(w, err)
		_, err = tunnel.Recv(w.within(time.Second))
		require.ErrorIs(w, err, iris.ErrTimeout)
		w.node.Inject(wire.AppendFinish(nil, 1))
		_, err = tunnel.Recv(w.Context())
		require.ErrorIs(w, err, io.ErrUnexpectedEOF)
		synctest.Wait()
		require.Zero(w, w.node.Tunnels())
	})
}

func TestTunnelThatCannotBeOpenedSaysWhy(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		conn := w.connect()
		_, err := conn.Tunnel(w.Context(), "nobody")
		require.ErrorIs(w, err, iris.ErrNoService)
		require.EqualError(w, err, `iris: tunnel to "nobody": no such service`)
		w.register("one", &handler{tunnel: echo}, &iris.ServiceLimits{TunnelThreads: 1})
		first, err := conn.Tunnel(w.Context(), "one")
		require.NoError(w, err)
		_, err = conn.Tunnel(w.Context(), "one")
		require.ErrorIs(w, err, iris.ErrOverloaded)
		require.NoError(w, first.Close())
		synctest.Wait()
		_, err = conn.Tunnel(w.Context(), "one")
		require.NoError(w, err)
	})
}

func TestLostNodeAndClosedConnectionBreakTunnels(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		ended := make(chan error, 2)
		handle := func(t *iris.Tunnel) {
			_, err := t.Recv(context.Background())
			ended <- err
		}
		w.register("peer", &handler{tunnel: handle}, nil)
		conn := w.connect()
		tunnel, err := conn.Tunnel(w.Context(), "peer")
		require.NoError(w, err)
		w.node.Drop()
		_, err = tunnel.Recv(w.Context())
		require.ErrorIs(w, err, iris.ErrLost)
		require.ErrorIs(w, <-ended, iris.ErrLost)
		time.Sleep(time.Second)
		tunnel, err = conn.Tunnel(w.Context(), "peer")
		require.NoError(w, err)
		require.NoError(w, conn.Close())
		_, err = tunnel.Recv(w.Context())
		require.ErrorIs(w, err, iris.ErrClosed)
		require.ErrorIs(w, <-ended, iris.ErrLost)
	})
}

func TestFramesForUnknownTunnelsAreIgnored(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(echo)
		for _, id := range []uint64{0, 99, 1<<64 - 1} {
			for _, frame := range [][]byte{
				wire.AppendOpened(nil, wire.Opened{ID: id, Window: 1}), wire.AppendData(nil, wire.Data{ID: id}),
				wire.AppendAllow(nil, id, 1), wire.AppendFinish(nil, id), wire.AppendAbort(nil, id, wire.CodeLost, ""),
			} {
				w.node.Inject(frame)
			}
		}
		require.NoError(w, tunnel.Send(w.Context(), []byte("fine")))
		m, err := tunnel.Recv(w.Context())
		require.NoError(w, err)
		require.Equal(w, "fine", string(m))
	})
}

func TestTenThousandIdleTunnels(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		w.register("peer", &handler{tunnel: echo}, nil)
		conn := w.connect()
		var all []*iris.Tunnel
		for range 10_000 {
			tunnel, err := conn.Tunnel(w.Context(), "peer")
			require.NoError(w, err)
			all = append(all, tunnel)
		}
		var wg sync.WaitGroup
		for _, tunnel := range all {
			wg.Go(func() {
				if err := tunnel.Close(); err != nil {
					w.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		require.Zero(w, w.node.Tunnels())
	})
}

func TestCloseIsBoundedByTenSeconds(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		tunnel := w.tunnelTo(func(*iris.Tunnel) { time.Sleep(time.Minute) })
		began := time.Now()
		require.ErrorIs(w, tunnel.Close(), iris.ErrTimeout)
		require.Equal(w, 10*time.Second, time.Since(began))
		time.Sleep(time.Minute)
	})
}

func TestUnregisterWaitsForTunnels(t *testing.T) {
	inWorld(t, fakenode.Config{}, func(w *world) {
		s := w.register("peer", &handler{tunnel: echo}, nil)
		tunnel, err := w.connect().Tunnel(w.Context(), "peer")
		require.NoError(w, err)
		time.AfterFunc(3*time.Second, func() { _ = tunnel.Close() })
		began := time.Now()
		require.NoError(w, s.Unregister())
		require.Equal(w, 3*time.Second, time.Since(began))
	})
}
