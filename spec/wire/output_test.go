package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// put appends one frame; it says what Begin says.
func put(o *Output, r Request) error {
	b, err := o.Begin(r.Size())
	if err != nil {
		return err
	}
	o.Commit(AppendRequest(b, r))
	return nil
}

// numbered is a request with a payload of size bytes.
func numbered(id uint64, size int) Request { return Request{ID: id, Payload: make([]byte, size)} }

// requireInOrder reads n requests numbered from 0 on.
func requireInOrder(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	r := NewReader(conn, 1<<30)
	for i := range n {
		content, err := r.Next()
		require.NoError(t, err)
		got, err := ParseRequest(content)
		require.NoError(t, err)
		require.EqualValues(t, i, got.ID)
	}
	_, err := r.Next()
	require.Equal(t, io.EOF, err)
}

func TestFramesArriveInOrderWhoeverFlushes(t *testing.T) {
	for name, pair := range pairs() {
		t.Run(name, func(t *testing.T) {
			const writers, each = 4, 2_000
			near, far := pair(t)
			o := NewOutput(near, 64<<10)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						for {
							err := put(o, numbered(uint64(w*each+i), i%200))
							if err == nil {
								break
							}
							if !errors.Is(err, ErrFull) || o.AwaitRoom(t.Context()) != nil {
								t.Error(err)
								return
							}
						}
						if i%3 == 0 {
							o.Flush()
						}
					}
				})
			}
			closed := make(chan error, 1)
			go func() {
				wg.Wait()
				closed <- o.Close(t.Context())
			}()
			next := [writers]uint64{}
			r := NewReader(far, 1000)
			for range writers * each {
				content, err := r.Next()
				require.NoError(t, err)
				got, err := ParseRequest(content)
				require.NoError(t, err)
				w := got.ID / each
				require.Equal(t, next[w], got.ID%each, "frames of one writer out of order")
				next[w]++
			}
			_, err := r.Next()
			require.Equal(t, io.EOF, err)
			require.NoError(t, <-closed)
		})
	}
}

func TestAReaderThatStopsMakesTheOutputFull(t *testing.T) {
	for name, pair := range pairs() {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			o := NewOutput(near, 10_000)
			n := 0
			for ; ; n++ {
				if err := put(o, numbered(uint64(n), 1_000)); err != nil {
					require.ErrorIs(t, err, ErrFull)
					break
				}
				o.Flush() // returns although nobody reads
			}
			require.LessOrEqual(t, o.Pending(), 10_000)
			require.Greater(t, o.Pending(), 5_000)
			require.Positive(t, o.Stalled(time.Now().Add(time.Second)))

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, o.AwaitRoom(ctx), context.Canceled)

			read := make(chan struct{})
			go func() {
				defer close(read)
				requireInOrder(t, far, n+1)
			}()
			require.NoError(t, o.AwaitRoom(t.Context()))
			require.NoError(t, put(o, numbered(uint64(n), 1_000)), "room was promised")
			require.NoError(t, o.Close(t.Context()))
			<-read
			require.Zero(t, o.Pending())
			require.Zero(t, o.Stalled(time.Now().Add(time.Hour)))
		})
	}
}

func TestAFrameLargerThanTheBoundPassesWhenLittleWaits(t *testing.T) {
	near, _ := net.Pipe()
	o := NewOutput(near, 1_000)
	require.NoError(t, put(o, numbered(0, 400)))
	require.NoError(t, put(o, numbered(1, 50_000)), "at most half of the limit waited")
	require.ErrorIs(t, put(o, numbered(2, 1)), ErrFull)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, o.Close(ctx), context.Canceled, "something was not sent")
}

func TestABrokenConnectionClosesTheOutput(t *testing.T) {
	for name, pair := range pairs() {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			o := NewOutput(near, 1<<20)
			require.NoError(t, far.Close())
			var err error
			for err == nil {
				if err = put(o, numbered(0, 10)); errors.Is(err, ErrFull) {
					err = o.AwaitRoom(t.Context())
				}
				o.Flush()
			}
			require.ErrorIs(t, err, ErrOutputClosed)
			require.ErrorIs(t, o.AwaitRoom(t.Context()), ErrOutputClosed)
			require.Zero(t, o.Pending())
			require.Error(t, o.Close(t.Context()))
		})
	}
}

func TestCloseWritesWhatWaits(t *testing.T) {
	for name, pair := range pairs() {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t)
			o := NewOutput(near, 4<<20)
			for i := range 3 {
				require.NoError(t, put(o, numbered(uint64(i), 1_000_000)))
			}
			closed := make(chan error, 2)
			for range 2 {
				go func() { closed <- o.Close(t.Context()) }()
			}
			requireInOrder(t, far, 3)
			require.NoError(t, <-closed)
			require.NoError(t, <-closed)
			require.ErrorIs(t, put(o, numbered(0, 1)), ErrOutputClosed)
			require.NoError(t, o.Close(t.Context()))
		})
	}
}

func TestCloseLosesNothingThoughInputIsUnread(t *testing.T) {
	near, far := tcpPair(t)
	_, err := far.Write(make([]byte, 100_000)) // which near never reads
	require.NoError(t, err)
	o := NewOutput(near, 4<<20)
	require.NoError(t, put(o, numbered(0, 1_000_000)))
	closed := make(chan error, 1)
	go func() { closed <- o.Close(t.Context()) }()
	requireInOrder(t, far, 1)
	_, err = far.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "not reset")
	require.NoError(t, far.Close())
	require.NoError(t, <-closed)
}

func TestCloseDoesNotWaitLongForTheOtherSide(t *testing.T) {
	near, _ := tcpPair(t) // the other end stays open
	o := NewOutput(near, 1000)
	began := time.Now()
	require.NoError(t, o.Close(t.Context()))
	require.Less(t, time.Since(began), 10*lingerTime)
}

func TestCloseGivesUpOnAReaderThatStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		o := NewOutput(near, 1000)
		require.NoError(t, put(o, numbered(0, 10)))
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorIs(t, o.Close(ctx), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestASecondCloseCutsTheFirstShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		o := NewOutput(near, 1000)
		require.NoError(t, put(o, numbered(0, 10)))
		first := make(chan error, 1)
		go func() { first <- o.Close(t.Context()) }()
		synctest.Wait()
		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, o.Close(done), context.Canceled)
		require.Error(t, <-first)
	})
}

func TestStalledCountsFromTheLastProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		o := NewOutput(near, 1<<20)
		require.NoError(t, put(o, numbered(0, 3*step)))
		require.Zero(t, o.Stalled(time.Now()), "nothing was flushed yet")
		o.Flush()
		time.Sleep(7 * time.Second)
		require.Equal(t, 7*time.Second, o.Stalled(time.Now()))
		_, err := io.ReadFull(far, make([]byte, step))
		require.NoError(t, err)
		synctest.Wait()
		time.Sleep(time.Second)
		require.Equal(t, time.Second, o.Stalled(time.Now()))
		closed := make(chan error, 1)
		go func() { closed <- o.Close(t.Context()) }()
		_, err = io.Copy(io.Discard, far)
		require.NoError(t, err)
		require.NoError(t, <-closed)
		require.Zero(t, o.Stalled(time.Now()))
	})
}

func TestAnIdleOutputHoldsLittle(t *testing.T) {
	near, far := net.Pipe()
	o := NewOutput(near, 4<<20)
	require.NoError(t, put(o, numbered(0, 1_000_000)))
	read := make(chan struct{})
	go func() {
		defer close(read)
		requireInOrder(t, far, 1)
	}()
	require.NoError(t, o.Close(t.Context()))
	<-read
	require.LessOrEqual(t, cap(o.buf)+cap(o.out), 2*idleBuffer)
}

func TestBuffersComeBackWhole(t *testing.T) {
	for _, need := range []int{1, 255, 256, 257, 2048, 2049, 4096, 4097, 65_536, 4 << 20, 4<<20 + 1} {
		b := newBuffer(need)
		require.Empty(t, b)
		require.GreaterOrEqual(t, cap(b), need)
		b = growBuffer(append(b, "kept"...), 2*need)
		require.Equal(t, "kept", string(b))
		freeBuffer(b)
	}
	odd := make([]byte, 5000)
	freeBuffer(odd) // of no class: dropped
	freeBuffer(nil)
	require.False(t, bytes.Equal(odd, nil))
}

// A backlog of many small frames must not be copied for each of them.
func TestABacklogGrowsByDoubling(t *testing.T) {
	near, _ := net.Pipe()
	o := NewOutput(near, 32<<20)
	grown := 0
	for range 30_000 {
		before := cap(o.buf)
		require.NoError(t, put(o, numbered(0, 1_000)))
		if cap(o.buf) != before {
			grown++
		}
	}
	require.Less(t, grown, 20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, o.Close(ctx))
}
