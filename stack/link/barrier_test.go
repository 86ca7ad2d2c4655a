package link_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

func TestSyncWaitsForAllThatWasSentAndItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		// Both answer each message on another lane, and node 1 sends on its own as well.
		body := make([]byte, 2000)
		for i := range p.rec {
			p.rec[i].OnMessage = func(turn *link.Turn, c *link.Conn, msg []byte) {
				if msg[0] == 'q' {
					_ = c.Send(turn, uint64(msg[1])+1, []byte("a"), msg)
				}
			}
		}
		for range 5 {
			var want [2][]string
			for i := range p.rec {
				var turn link.Turn
				for flow := range byte(200) {
					msg := append([]byte{'q', flow}, body...)
					require.NoError(t, p.conn(t, i).Send(&turn, uint64(flow), nil, msg))
					want[i] = append(want[i], string(msg))
				}
				turn.End()
			}
			require.NoError(t, p.conn(t, 0).Sync(t.Context()))
			got := [2][]string{p.rec[0].Messages(), p.rec[1].Messages()}
			for _, q := range want[0] {
				require.Contains(t, got[1], q, "handled there")
				require.Contains(t, got[0], "a"+q, "and answered")
			}
			for _, q := range want[1] {
				require.Contains(t, got[0], q, "the other's messages before its echo")
			}
		}
	})
}

func TestSyncIsNotBlockedByAFullLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		release := make(chan struct{})
		block(t, p, release)
		var turn link.Turn
		accepted := 1
		for ; c.Send(&turn, 0, nil, make([]byte, 10_000)) == nil; accepted++ {
			turn.End()
		}
		done := make(chan error, 1)
		go func() { done <- c.Sync(t.Context()) }()
		time.Sleep(time.Second)
		require.Empty(t, done, "what is before the mark was not handled")
		close(release)
		require.NoError(t, <-done)
		require.Len(t, p.rec[1].Messages(), accepted)
	})
}

func TestManySyncsFromBothSidesReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		var wg sync.WaitGroup
		var returned atomic.Int32
		for i := range 100 {
			wg.Go(func() {
				if p.conn(t, i%2).Sync(t.Context()) == nil {
					returned.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 100, returned.Load())
	})
}

func TestSyncEndsWithItsContextAndTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		release := make(chan struct{})
		block(t, p, release)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.Sync(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, c.Sync(ctx), context.DeadlineExceeded, "waits for the round under way")
		close(release)
		require.NoError(t, c.Sync(t.Context()))

		done := make(chan error, 2)
		p.Paths.Cut(p.Addr(0), p.Addr(1))
		for range cap(done) {
			go func() { done <- c.Sync(t.Context()) }()
		}
		time.Sleep(time.Second)
		c.Close(link.ReasonUser)
		for range cap(done) {
			require.ErrorIs(t, <-done, link.ReasonUser)
		}
		require.Error(t, c.Sync(t.Context()))
	})
}

// marks are bytes of a hostile lane: so many marks or echoes, or a mix.
func marks(kinds ...byte) []byte {
	var b []byte
	for _, k := range kinds {
		b = append(b, 0xff, 0xff, 0xff, k)
	}
	return b
}

func TestMarksOutOfPlaceEndTheLink(t *testing.T) {
	linktest.Key(t)
	const mark, echo = 0xff, 0xfe
	for name, lane := range map[string][]byte{
		"echo of nothing": marks(echo),
		"second mark":     marks(mark, mark),
		"echo to a mark":  marks(mark, echo),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				q, _ := rawLink(t, p)
				must(must(q.OpenUniStream()).Write(lane))
				require.Equal(t, link.ReasonProtocol, ended(t, q))
			})
		})
	}
	t.Run("on the control stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := runPair(t, linktest.Options{})
			q, control := rawLink(t, p)
			must(control.Write(marks(mark)))
			require.Equal(t, link.ReasonProtocol, ended(t, q))
		})
	})
}

func TestFloodOfMarksEndsTheLinkOfAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		q, _ := rawLink(t, p)
		var wg sync.WaitGroup
		for range 4 {
			lane := must(q.OpenUniStream())
			// Of the echoes, what fits the windows of four lanes is taken; the rest waits.
			flood := bytes.Repeat(marks(0xff), 1<<20)
			wg.Go(func() { _, _ = lane.Write(flood) })
		}
		require.Equal(t, link.ReasonProtocol, ended(t, q))
		wg.Wait()
	})
}

// echoes counts the echoes that a hostile peer gets, on all lanes.
func echoes(q *quic.Conn) *atomic.Int32 {
	var n atomic.Int32
	go func() {
		for {
			lane, err := q.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 4)
				for {
					if _, err := lane.Read(b); err != nil {
						return
					}
					if slices.Equal(b, marks(0xfe)) {
						n.Add(1)
					}
				}
			}()
		}
	}()
	return &n
}

func TestEchoWaitsForTheMarkOfEveryLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		q, _ := rawLink(t, p)
		n := echoes(q)
		for i := range 4 {
			require.Zero(t, n.Load(), "lane %d", i)
			must(must(q.OpenUniStream()).Write(marks(0xff)))
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 4, n.Load(), "one on each lane")
		require.NoError(t, q.CloseWithError(0, ""))
	})
}
