package link_test

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

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

func TestBothSidesDiallingEndsWithOneLink(t *testing.T) {
	linktest.Key(t)
	for i := range 40 {
		synctest.Test(t, func(t *testing.T) {
			p := runPair(t, linktest.Options{})
			var errs [2]error
			var wg sync.WaitGroup
			for from := range errs {
				wg.Go(func() {
					// From at once to one handshake apart, either first.
					if offset := time.Duration(i-20) * latency / 4; (offset > 0) == (from == 0) {
						time.Sleep(offset.Abs())
					}
					errs[from] = p.Transports[from].Dial(t.Context(), p.Transports[1-from].ID(), p.Addr(1-from))
					// Dial promises that the link is up by now.
					if p.rec[from].Link(p.Transports[1-from].ID()) == nil {
						errs[from] = fmt.Errorf("round %d: no link when Dial returned: %w", i, errs[from])
					}
				})
			}
			wg.Wait()
			require.NoError(t, errors.Join(errs[:]...))
			time.Sleep(time.Second)
			require.Equal(t, 1, p.rec[0].Ups(), "round %d", i)
			require.Equal(t, 1, p.rec[1].Ups(), "round %d", i)
			// It is the same one.
			send(t, p.conn(t, 0), 0, "to 1")
			send(t, p.conn(t, 1), 0, "to 0")
			time.Sleep(time.Second)
			require.Equal(t, []string{"to 1"}, p.rec[1].Messages())
			require.Equal(t, []string{"to 0"}, p.rec[0].Messages())
			require.Empty(t, p.Transports[0].Refused(), "a duplicate is not a refusal")
		})
	}
}

func TestManyDialsOfOnePeerMakeOneLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		for i := range 20 {
			wg.Go(func() {
				from := i % 2
				if err := p.Transports[from].Dial(t.Context(), p.Transports[1-from].ID(), p.Addr(1-from)); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Empty(t, failed)
		time.Sleep(time.Second)
		require.Equal(t, 1, p.rec[0].Ups())
		require.Equal(t, 1, p.rec[1].Ups())
	})
}

func TestDialOfALinkedPeerReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		for i := range 2 {
			before := time.Now()
			require.NoError(t, p.Transports[i].Dial(t.Context(), p.Transports[1-i].ID(), p.Addr(1-i)))
			require.Zero(t, time.Since(before))
		}
	})
}

func TestRelinkAfterCloseFromEitherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		for round := range 8 {
			closer, dialler := round%2, round/2%2
			p.conn(t, closer).Close(link.ReasonSilent)
			if closer != dialler {
				time.Sleep(10 * latency)
			}
			require.NoError(t, p.dial(t, dialler, 1-dialler), "round %d", round)
			send(t, p.conn(t, 0), 0, "hello again")
			time.Sleep(10 * latency)
			require.Len(t, p.rec[1].Messages(), round+1)
		}
	})
}

func TestCloseTellsBothSidesTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		c.Close(link.ReasonUser + 3)
		c.Close(link.ReasonSilent)
		time.Sleep(time.Second)
		var local *link.LocalError
		var remote *link.RemoteError
		require.Len(t, p.rec[0].Downs(), 1)
		require.ErrorAs(t, p.rec[0].Downs()[0], &local)
		require.Equal(t, link.ReasonUser+3, local.Reason)
		require.Len(t, p.rec[1].Downs(), 1)
		require.ErrorAs(t, p.rec[1].Downs()[0], &remote)
		require.Equal(t, link.ReasonUser+3, remote.Reason)
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonUser+3)

		var turn link.Turn
		require.ErrorIs(t, c.Send(&turn, 0, nil, []byte("x")), link.ErrClosed)
		require.ErrorIs(t, c.SendControl([]byte("x")), link.ErrClosed)
	})
}

func TestCloseInsideCallbacksDoesNotDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{Network: linktest.New(t, 2, linktest.Options{Latency: latency})}
		p.rec = [2]*linktest.Recorder{
			{OnMessage: func(_ *link.Turn, c *link.Conn, _ []byte) { c.Close(link.ReasonUser) }},
			{OnControl: func(c *link.Conn, _ []byte) { c.Close(link.ReasonUser) }},
		}
		p.Run(0, p.rec[0])
		p.Run(1, p.rec[1])
		synctest.Wait()
		require.NoError(t, p.dial(t, 0, 1))
		send(t, p.conn(t, 1), 0, "close")
		time.Sleep(time.Second)
		require.Len(t, p.rec[0].Downs(), 1)
		require.NoError(t, p.dial(t, 0, 1))
		require.NoError(t, p.conn(t, 0).SendControl([]byte("close")))
		time.Sleep(time.Second)
		require.Len(t, p.rec[1].Downs(), 2)
	})
}

func TestDownComesAfterEveryOtherCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		release := make(chan struct{})
		block(t, p, release)
		c := p.conn(t, 1)
		c.Close(link.ReasonUser)
		time.Sleep(time.Second)
		require.Empty(t, p.rec[1].Downs(), "a message is still being handled")
		require.Len(t, p.rec[0].Downs(), 1)
		// A new link of the peer waits for that, too.
		dialled := make(chan error)
		go func() { dialled <- p.Transports[0].Dial(t.Context(), p.Transports[1].ID(), p.Addr(1)) }()
		time.Sleep(time.Second)
		require.Equal(t, 1, p.rec[1].Ups())
		close(release)
		require.NoError(t, <-dialled)
		synctest.Wait()
		require.Len(t, p.rec[1].Downs(), 1)
		require.Equal(t, 2, p.rec[1].Ups())
	})
}

func TestEndOfRunSaysLeavingAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		p.Stop(0)
		time.Sleep(time.Second)
		require.Len(t, p.rec[0].Downs(), 1)
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonLeaving)
		require.Error(t, p.Transports[0].Dial(t.Context(), p.Transports[1].ID(), p.Addr(1)), "no dial after Run")
		require.Error(t, p.dial(t, 1, 0))
	})
}

func TestSilentPeerEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		p.Paths.Cut(p.Addr(0), p.Addr(1))
		send(t, p.conn(t, 0), 0, "into the void")
		time.Sleep(3 * link.IdleTimeout)
		require.ErrorIs(t, p.rec[0].Downs()[0], link.ErrIdle)
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ErrIdle)
		p.Paths.Heal()
		require.NoError(t, p.dial(t, 1, 0))
	})
}

func TestPeerOfARestartedNodeLearnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		// Node 0 dies without a word and a new one takes its address.
		p.Paths.Cut(p.Addr(0), p.Addr(1))
		require.NoError(t, p.Transports[0].Close())
		time.Sleep(10 * latency) // its farewell is lost
		p.Paths.Heal()
		reborn, err := link.New(link.Config{Network: linktest.NetworkOf(t, linktest.Name, linktest.Key(t)), Socket: p.Socket(p.Addr(0))})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, reborn.Run(ctx, new(linktest.Recorder))) })
		synctest.Wait()
		before := time.Now()
		send(t, p.conn(t, 1), 0, "are you there?")
		time.Sleep(100 * latency)
		require.Len(t, p.rec[1].Downs(), 1, "after %v", time.Since(before))
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ErrReset)
		cancel()
		wg.Wait()
	})
}

func TestDialOfNobodyFailsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		before := time.Now()
		require.Error(t, p.Transports[0].Dial(t.Context(), link.ID{1}, p.Addr(9)))
		require.LessOrEqual(t, time.Since(before), 7*time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		before = time.Now()
		require.ErrorIs(t, p.Transports[0].Dial(ctx, link.ID{1}, p.Addr(9)), context.DeadlineExceeded)
		require.Equal(t, 100*time.Millisecond, time.Since(before))
	})
}

func TestDialEndsWhenRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		result := make(chan error)
		go func() { result <- p.Transports[0].Dial(t.Context(), link.ID{1}, p.Addr(9)) }()
		time.Sleep(100 * time.Millisecond)
		before := time.Now()
		p.Stop(0)
		require.Error(t, <-result)
		require.Less(t, time.Since(before), 100*time.Millisecond)
	})
}

func TestCloseWithoutRunLeaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a bubble fails when a goroutine is left
		n := linktest.New(t, 1, linktest.Options{})
		tr := n.Transports[0]
		require.Error(t, tr.Dial(t.Context(), link.ID{1}, n.Addr(1)), "not running")
		require.NoError(t, tr.Close())
		require.NoError(t, tr.Close())
		require.Error(t, tr.Run(t.Context(), new(linktest.Recorder)))
	})
}

func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { require.NoError(t, p.Transports[0].Close()) })
		}
		wg.Wait()
		require.Len(t, p.rec[0].Downs(), 1)
		_, _, err := p.Transports[0].ReadProbe(t.Context(), make([]byte, 10))
		require.Error(t, err)
	})
}

func TestProbesShareTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b := make([]byte, 100)
		_, _, err := p.Transports[1].ReadProbe(ctx, b)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		require.NoError(t, p.Transports[0].WriteProbe([]byte("\x01probe"), p.Addr(1)))
		require.NoError(t, p.Transports[0].WriteProbe([]byte("\x01void"), p.Addr(9)))
		n, from, err := p.Transports[1].ReadProbe(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, "\x01probe", string(b[:n]))
		require.Equal(t, p.Addr(0), from)
		send(t, p.conn(t, 0), 0, "still here")
		time.Sleep(time.Second)
		require.Len(t, p.rec[1].Messages(), 1)
	})
}

func TestFlowsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		var wg sync.WaitGroup
		const each = 500
		for flow := range uint64(9) {
			wg.Go(func() {
				var turn link.Turn
				for i := range each {
					for c.Send(&turn, flow, fmt.Appendf(nil, "%d ", flow), fmt.Append(nil, i)) != nil {
						time.Sleep(latency)
					}
					if i%7 == 0 {
						turn.End()
					}
				}
				turn.End()
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		next := make(map[string]int)
		for _, m := range p.rec[1].Messages() {
			flow, i, _ := strings.Cut(m, " ")
			require.Equal(t, fmt.Sprint(next[flow]), i, "flow %s", flow)
			next[flow]++
		}
		require.Len(t, next, 9)
		require.Equal(t, each, next["8"])
	})
}

func TestLossDoesNotLoseMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		n := 0
		p.Paths.Watch(func(_, _ netAddr, _ []byte) bool { n++; return n%10 != 0 })
		for i := range 200 {
			send(t, p.conn(t, 0), 1, fmt.Sprint(i))
			time.Sleep(latency)
		}
		time.Sleep(4 * time.Second)
		got := p.rec[1].Messages()
		require.Len(t, got, 200)
		for i, m := range got {
			require.Equal(t, fmt.Sprint(i), m)
		}
	})
}
