package link

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"
)

// A fakeStream takes credit bytes without blocking, and more only from a blocked
// Write, when grant is called.
type fakeStream struct {
	mu     sync.Mutex
	cond   *sync.Cond
	credit int
	got    []byte
	writes int
	gone   error
}

func newFakeStream(credit int) *fakeStream {
	s := &fakeStream{credit: credit}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *fakeStream) TryWriteAll(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return s.gone
	}
	if len(b) > s.credit {
		return quic.ErrWouldBlock
	}
	s.take(len(b), b)
	s.writes++
	return nil
}

func (s *fakeStream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	done := 0
	for done < len(b) {
		for s.credit == 0 && s.gone == nil {
			s.cond.Wait()
		}
		if s.gone != nil {
			return done, s.gone
		}
		n := min(s.credit, len(b)-done)
		s.take(n, b[done:])
		done += n
	}
	return done, nil
}

func (s *fakeStream) take(n int, b []byte) {
	s.credit -= n
	s.got = append(s.got, b[:n]...)
}

func (s *fakeStream) grant(n int, gone error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit += n
	s.gone = gone
	s.cond.Broadcast()
}

// testLimit is the bound of the outputs of these tests.
const testLimit = 1 << 20

func newTestOutput(w writer) (*output, *sync.WaitGroup) {
	var wg sync.WaitGroup
	return &output{w: w, limit: testLimit, buffers: newBuffers(), wg: &wg}, &wg
}

func (s *fakeStream) messages(t *testing.T) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	got, err := feed(&splitter{max: 4 << 20}, s.got, len(s.got)+1)
	require.NoError(t, err)
	var all []string
	for _, m := range got {
		all = append(all, string(m))
	}
	return all
}

func TestOutputWritesABatchAtOnceWithoutAGoroutine(t *testing.T) {
	s := newFakeStream(1 << 20)
	o, _ := newTestOutput(s)
	for i := range 3 {
		require.NoError(t, o.append([]byte("m"), fmt.Append(nil, i)))
	}
	require.Empty(t, s.got)
	o.Flush()
	require.Equal(t, []string{"m0", "m1", "m2"}, s.messages(t))
	require.Equal(t, 1, s.writes)
	o.Flush()
	require.Equal(t, 1, s.writes)
	require.Nil(t, o.pending, "an idle output holds no buffer")
}

func TestOutputThatWouldBlockIsDrainedByOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream(0)
		o, wg := newTestOutput(s)
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			require.NoError(t, o.append(nil, fmt.Append(nil, i)))
			o.Flush() // returns, though nothing can be written
		}
		for range 50 {
			s.grant(10, nil)
			synctest.Wait()
		}
		s.grant(1<<20, nil)
		wg.Wait()
		require.Equal(t, want, s.messages(t))
		require.Less(t, s.writes, 4, "what was appended meanwhile is one batch")
		require.False(t, o.writing)
		require.NoError(t, o.append(nil, []byte("inline again")))
		o.Flush()
		require.Len(t, s.messages(t), 101)
	})
}

func TestOutputIsBounded(t *testing.T) {
	s := newFakeStream(0)
	o, wg := newTestOutput(s)
	require.NoError(t, o.append(nil, make([]byte, 3*testLimit)), "an empty output takes any message")
	require.ErrorIs(t, o.append(nil, nil), ErrFull)
	o.Flush() // in flight counts
	require.ErrorIs(t, o.append(nil, nil), ErrFull)
	s.grant(4*testLimit, nil)
	wg.Wait()
	require.NoError(t, o.append(nil, make([]byte, testLimit-headerBytes-headerBytes)))
	require.NoError(t, o.append(nil, nil), "to the last byte")
	require.ErrorIs(t, o.append(nil, nil), ErrFull)
}

func TestOutputOfADeadStreamIsClosed(t *testing.T) {
	gone := errors.New("gone")
	s := newFakeStream(0)
	o, wg := newTestOutput(s)
	require.NoError(t, o.append(nil, []byte("x")))
	o.Flush()
	s.grant(0, gone)
	wg.Wait()
	require.ErrorIs(t, o.append(nil, []byte("y")), ErrClosed)
	o.Flush()

	inline, _ := newTestOutput(s)
	require.NoError(t, inline.append(nil, []byte("x")))
	inline.Flush()
	require.ErrorIs(t, inline.append(nil, []byte("y")), ErrClosed)
}

func TestShutOutputStartsNoGoroutine(t *testing.T) {
	s := newFakeStream(0)
	o, wg := newTestOutput(s)
	require.NoError(t, o.append(nil, []byte("x")))
	o.shut()
	o.Flush()
	wg.Wait() // returns
	require.ErrorIs(t, o.append(nil, nil), ErrClosed)
	require.Empty(t, s.got)
}

func TestConcurrentFlushesKeepTheOrder(t *testing.T) {
	s := newFakeStream(1 << 10)
	o, wg := newTestOutput(s)
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for i := range 1000 {
				for o.append(fmt.Appendf(nil, "%d:", user), fmt.Append(nil, i)) != nil {
					o.Flush()
				}
				o.Flush()
				if i%10 == 0 {
					s.grant(200, nil)
				}
			}
		})
	}
	users.Wait()
	s.grant(1<<20, nil)
	wg.Wait()
	next := make(map[byte]int)
	for _, m := range s.messages(t) {
		require.Equal(t, fmt.Sprintf("%c:%d", m[0], next[m[0]]), m)
		next[m[0]]++
	}
	require.Equal(t, 1000, next['3'])
}

// A countingFlusher counts its flushes.
type countingFlusher struct{ n int }

func (f *countingFlusher) Flush() { f.n++ }

func TestTurnFlushesEachOutputOnce(t *testing.T) {
	var turn Turn
	a, b := new(countingFlusher), new(countingFlusher)
	for range 5 {
		turn.Touch(a)
		turn.Touch(b)
	}
	turn.End()
	turn.End()
	require.Equal(t, 1, a.n)
	require.Equal(t, 1, b.n)
}
