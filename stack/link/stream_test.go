package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// An end is one end of a stream, and what came on it.
type end struct {
	stream *link.Stream
	stall  chan struct{} // if not nil, Received waits until it is closed
	echo   bool

	mu       sync.Mutex // guards the fields below
	messages []string
	finished int
	broken   []error
}

func (e *end) Received(t *link.Turn, msg []byte) {
	if e.stall != nil {
		<-e.stall
	}
	e.mu.Lock()
	e.messages = append(e.messages, string(msg))
	e.mu.Unlock()
	if e.echo {
		_ = e.stream.Send(t, []byte("echo "), msg)
	}
}

func (e *end) Finished() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finished++
}

func (e *end) Broken(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = append(e.broken, err)
}

// has requires what came so far; err is nil if the stream is not broken.
func (e *end) has(t *testing.T, messages []string, finished bool, err error) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(t, messages, e.messages)
	require.Equal(t, finished, e.finished == 1)
	if err == nil {
		require.Empty(t, e.broken)
		return
	}
	require.Len(t, e.broken, 1)
	require.ErrorIs(t, e.broken[0], err)
}

// ends keeps the ends of the streams that a node accepts.
type ends struct {
	prepare func(e *end) // if not nil

	mu  sync.Mutex // guards the fields below
	all []*end
}

func (es *ends) accept(_ *link.Conn, s *link.Stream) link.StreamHandler {
	e := &end{stream: s}
	if es.prepare != nil {
		es.prepare(e)
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	es.all = append(es.all, e)
	return e
}

func (es *ends) last() *end {
	es.mu.Lock()
	defer es.mu.Unlock()
	return es.all[len(es.all)-1]
}

// newStreams links two nodes whose streams are accepted.
func newStreams(t *testing.T) (*pair, [2]*ends) {
	p := newPair(t, linktest.Options{})
	var accepted [2]*ends
	for i := range p.rec {
		accepted[i] = new(ends)
		p.rec[i].OnStream = accepted[i].accept
	}
	return p, accepted
}

// open opens a stream from node i; its first message is "open".
func open(t *testing.T, p *pair, i int) *end {
	t.Helper()
	e := new(end)
	s, err := p.conn(t, i).OpenStream(t.Context(), e)
	require.NoError(t, err)
	e.stream = s
	e.send(t, "open")
	pause(10 * latency)
	return e
}

func (e *end) send(t *testing.T, messages ...string) {
	t.Helper()
	var turn link.Turn
	for _, m := range messages {
		require.NoError(t, e.stream.Send(&turn, nil, []byte(m)))
	}
	turn.End()
}

// pause lets time pass and everything happen that is due.
func pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestStreamCarriesMessagesInOrderAndEndsByHalves(t *testing.T) {
	for opener := range 2 {
		synctest.Test(t, func(t *testing.T) {
			p, accepted := newStreams(t)
			a := open(t, p, opener)
			b := accepted[1-opener].last()
			sent := []string{"open"}
			for i := range 1000 {
				sent = append(sent, fmt.Sprintf("%d %*d", i, i*2, i))
			}
			a.send(t, sent[1:]...)
			a.stream.Finish()
			a.stream.Finish()
			require.ErrorIs(t, a.stream.Send(new(link.Turn), nil, nil), link.ErrClosed)
			for range 60 { // nobody says anything for long on streams
				require.NoError(t, p.conn(t, 0).SendControl([]byte("heartbeat")))
				pause(time.Second)
			}
			b.has(t, sent, true, nil)
			a.has(t, nil, false, nil)

			b.send(t, "late", "answer")
			pause(time.Second)
			a.has(t, []string{"late", "answer"}, false, nil)
		})
	}
}

func TestFinishedStreamEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a := open(t, p, 0)
		b := accepted[1].last()
		a.send(t, "question")
		a.stream.Finish()
		pause(time.Second)
		b.has(t, []string{"open", "question"}, true, nil)
		b.send(t, "answer")
		b.stream.Finish()
		pause(time.Second)
		a.has(t, []string{"answer"}, true, nil)
		for _, e := range []*end{a, b} {
			e.stream.Abort(link.ReasonUser) // too late to matter
			require.ErrorIs(t, e.stream.Send(new(link.Turn), nil, nil), link.ErrClosed)
		}
		p.conn(t, 0).Close(link.ReasonUser)
		pause(time.Second)
		a.has(t, []string{"answer"}, true, nil)
		b.has(t, []string{"open", "question"}, true, nil)
	})
}

func TestAbortEndsBothDirectionsAtBothSides(t *testing.T) {
	for _, byOpener := range []bool{true, false} {
		for _, halfClosed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p, accepted := newStreams(t)
				a := open(t, p, 0)
				b := accepted[1].last()
				by, other := a, b
				if !byOpener {
					by, other = b, a
				}
				if halfClosed {
					by.stream.Finish()
					pause(time.Second)
				}
				by.stream.Abort(link.ReasonUser + 7)
				by.stream.Abort(link.ReasonUser + 8)
				pause(time.Second)
				for _, e := range []*end{by, other} {
					require.Len(t, e.broken, 1)
					require.ErrorIs(t, e.broken[0], link.ReasonUser+7)
					require.ErrorIs(t, e.stream.Send(new(link.Turn), nil, nil), link.ErrClosed)
				}
				require.ErrorAs(t, by.broken[0], new(*link.LocalError))
				require.ErrorAs(t, other.broken[0], new(*link.RemoteError))
			})
		}
	}
}

func TestAbortIsSeenAfterThePeerFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a := open(t, p, 0)
		a.stream.Finish()
		pause(time.Second)
		b := accepted[1].last()
		b.has(t, []string{"open"}, true, nil)
		a.stream.Abort(link.ReasonUser)
		pause(time.Second)
		b.has(t, []string{"open"}, true, link.ReasonUser)
		a.has(t, nil, false, link.ReasonUser)
	})
}

func TestRefusedStreamIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{}) // whose recorders refuse
		a := open(t, p, 0)
		pause(time.Second)
		a.has(t, nil, false, link.ReasonRefused)
	})
}

func TestStreamsBreakWithTheirLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a, b := open(t, p, 0), open(t, p, 1)
		p.conn(t, 0).Close(link.ReasonSilent)
		pause(time.Second)
		for _, e := range []*end{a, b, accepted[0].last(), accepted[1].last()} {
			require.Len(t, e.broken, 1)
		}
		require.Len(t, p.rec[0].Downs(), 1)
		require.NoError(t, p.dial(t, 0, 1))
		open(t, p, 1)
		accepted[0].last().has(t, []string{"open"}, false, nil)
	})
}

func TestStreamsBreakWhenThePathDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a := open(t, p, 0)
		p.Paths.Cut(p.Addr(0), p.Addr(1))
		pause(2 * link.IdleTimeout)
		require.Len(t, a.broken, 1)
		require.Len(t, accepted[1].last().broken, 1)
	})
}

func TestBrokenTrunkBreaksItsStreamsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a := open(t, p, 0)
		link.BreakTrunk(p.conn(t, 1))
		pause(time.Second)
		require.Len(t, a.broken, 1)
		require.Len(t, accepted[1].last().broken, 1)
		require.Empty(t, p.rec[0].Downs())
		open(t, p, 0) // over a new one
		accepted[1].last().has(t, []string{"open"}, false, nil)
	})
}

func TestTrunkWithoutALinkIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		q := rawDial(t, p, 1, func(c *tls.Config) { c.NextProtos = []string{link.StreamsALPN} })
		must(must(q.OpenStream()).Write([]byte{0, 0, 0, 1, 'x'}))
		require.Equal(t, link.ReasonProtocol, ended(t, q))
		require.Empty(t, accepted[1].all)
	})
}

func TestHostileBytesOnAStreamEndTheStreamOnly(t *testing.T) {
	linktest.Key(t)
	for name, row := range map[string][]byte{
		"length bomb":             {0, 2, 0, 1},
		"mark":                    {255, 255, 255, 255},
		"end within a message":    {0, 0, 0, 2, 'x'},
		"end within a length":     {0, 0, 0},
		"length bomb and message": {0, 0, 0, 1, 'x', 127, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, accepted := newStreams(t)
				a := open(t, p, 0)
				link.WriteRaw(a.stream, row)
				a.stream.Finish()
				pause(time.Second)
				require.ErrorIs(t, accepted[1].last().broken[0], link.ReasonProtocol)
				require.ErrorIs(t, a.broken[0], link.ReasonProtocol)
				open(t, p, 0)
				accepted[1].last().has(t, []string{"open"}, false, nil)
				require.Empty(t, p.rec[1].Downs())
			})
		})
	}
}

func TestRoomIsAwaitedUntilALaneIsHalfEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		require.NoError(t, c.AwaitRoom(t.Context(), 0))
		release := make(chan struct{})
		block(t, p, release)
		var turn link.Turn
		for c.Send(&turn, 0, nil, make([]byte, 10_000)) == nil {
			turn.End()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.AwaitRoom(ctx, 0), context.DeadlineExceeded)
		require.NoError(t, c.AwaitRoom(t.Context(), 1), "another lane")
		close(release)
		for range 3 * link.LaneLimit / 10_000 { // half of that or more at once: waits for room each time it is short
			require.NoError(t, c.AwaitRoom(t.Context(), 0))
			require.NoError(t, c.Send(&turn, 0, nil, make([]byte, 10_000)))
			turn.End()
		}
		c.Close(link.ReasonUser)
		pause(time.Second)
		require.ErrorIs(t, c.AwaitRoom(t.Context(), 0), link.ErrClosed)
	})
}

func TestBothOpeningAtOnceWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				e := new(end)
				s, err := p.conn(t, i%2).OpenStream(t.Context(), e)
				if err != nil {
					t.Error(err)
					return
				}
				e.stream = s
				e.send(t, "open")
			})
		}
		wg.Wait()
		pause(time.Second)
		for i := range accepted {
			require.Len(t, accepted[i].all, 20)
			for _, e := range accepted[i].all {
				e.has(t, []string{"open"}, false, nil)
			}
		}
	})
}

func TestFullStreamRefusesAndDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		stall := make(chan struct{})
		accepted[1].prepare = func(e *end) { e.stall = stall }
		var stalled []*end
		for range 5 {
			e := open(t, p, 0)
			stalled = append(stalled, e)
			var turn link.Turn
			accepting := 0
			for ; e.stream.Send(&turn, nil, make([]byte, 100_000)) == nil; accepting++ {
				turn.End()
				time.Sleep(latency)
			}
			require.ErrorIs(t, e.stream.Send(&turn, nil, make([]byte, 100_000)), link.ErrFull)
			require.Less(t, accepting, 50, "bound and window")
		}
		accepted[1].prepare = func(e *end) { e.echo = true }
		quick := open(t, p, 0)
		quick.has(t, []string{"echo open"}, false, nil)
		send(t, p.conn(t, 0), 0, "lane")
		time.Sleep(3 * latency)
		require.Equal(t, []string{"lane"}, p.rec[1].Messages())
		close(stall)
		pause(time.Second)
		stalled[0].stream.Finish()
		pause(time.Second)
		require.Equal(t, 1, accepted[1].all[0].finished)
	})
}

func TestStreamMessagesHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, accepted := newStreams(t)
		a := open(t, p, 0)
		require.ErrorIs(t, a.stream.Send(new(link.Turn), []byte{1}, make([]byte, 128<<10)), link.ErrTooLarge)
		largest := string(make([]byte, 128<<10))
		a.send(t, largest)
		pause(time.Second)
		accepted[1].last().has(t, []string{"open", largest}, false, nil)
	})
}

func TestOpenStreamEndsWithItsContextAndTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newStreams(t)
		c := p.conn(t, 0)
		p.Paths.Cut(p.Addr(0), p.Addr(1))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.OpenStream(ctx, new(end))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		result := make(chan error)
		go func() {
			_, err := c.OpenStream(t.Context(), new(end))
			result <- err
		}()
		time.Sleep(100 * time.Millisecond)
		c.Close(link.ReasonUser)
		require.True(t, errors.Is(<-result, link.ReasonUser))
		_, err = c.OpenStream(t.Context(), new(end))
		require.ErrorIs(t, err, link.ReasonUser)
	})
}
