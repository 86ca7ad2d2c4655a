package patterns_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

func TestDeadlineEndsARequestAndCancelsItAtTheMember(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		const budget = 102 * time.Millisecond
		began := time.Now()
		c.send(1, budget)
		time.Sleep(budget)
		synctest.Wait()
		c.pending(t, 1) // never early: rounded up to a tick
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, patterns.CodeTimeout, c.outcome(t, 1).Code)
		require.NotEmpty(t, c.outcome(t, 1).Text)
		require.Equal(t, budget, s.served[0].budget, "the budget travels; it took no time to be sent")
		time.Sleep(5 * time.Millisecond)
		require.Equal(t, []uint64{s.served[0].id}, s.cancels())
		require.False(t, s.answer(0), "nobody waits for it")
		require.Less(t, time.Since(began), 120*time.Millisecond)
	})
}

func TestDeadlinesNeverFireEarly(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		h.service()
		c := h.client()
		const far = 30 * time.Second // three turns of the wheel
		budgets := []time.Duration{1, time.Millisecond, 4999 * time.Microsecond, 5 * time.Millisecond, 5*time.Millisecond + 1, time.Second, 10240 * time.Millisecond, far}
		for i, b := range budgets {
			time.Sleep(1300 * time.Microsecond)
			synctest.Wait()
			id := uint64(i)
			c.send(id, b)
			time.AfterFunc(b-1, func() { c.pending(t, id) })
			time.AfterFunc(b+6*time.Millisecond, func() { c.outcome(t, id) })
		}
		time.Sleep(far + time.Second)
	})
}

func TestBudgetOfZeroIsTimeoutAtOnce(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		s, c := h.client(), h.client()
		s.port.Serve("c")
		c.send(1, 0)
		require.Equal(t, patterns.CodeTimeout, c.outcome(t, 1).Code)
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(1<<20, 0, "x")) })
		require.Equal(t, replyMessage(1<<20, patterns.CodeTimeout, ""), o.sent[0].body)
		require.Zero(t, s.count())
	})
}

func TestRunSleepsWhileNothingIsPending(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		h.echo()
		c := h.client()
		time.Sleep(240 * time.Hour) // no wheel turns meanwhile, and none has to catch up
		c.send(1, time.Minute)
		require.Equal(t, patterns.CodeOK, c.outcome(t, 1).Code)
	})
}

func TestCancelTravels(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		for i, h := range w.hosts(1, 2) {
			s, c := h.service(), w.host(byte(10+i)).client()
			c.send(1, -1)
			synctest.Wait()
			c.port.Cancel(&c.turn, 1)
			c.port.Cancel(&c.turn, 1)
			c.turn.End()
			synctest.Wait()
			require.Equal(t, patterns.CodeCancelled, c.outcome(t, 1).Code)
			require.Equal(t, []uint64{s.served[0].id}, s.cancels())
			s.answer(0)
			c.outcome(t, 1)
			s.port.Close(&s.turn)
			synctest.Wait()
		}
	})
}

func TestCancelOfAPeerIsNotAnswered(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		s := h.client()
		s.port.Serve("c")
		turn(func(t *link.Turn) {
			h.Message(t, link.ID{9}, requestMessage(1<<20, 1000, "x"))
			h.Message(t, link.ID{9}, cancelMessage(1<<20))
		})
		require.Equal(t, []uint64{s.served[0].id}, s.cancels())
		require.False(t, s.answer(0))
		require.Empty(t, o.sent)
	})
}

func TestCancelOnOneNode(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.service(), h.client()
		c.send(1, -1)
		c.port.Cancel(&c.turn, 1)
		require.Equal(t, patterns.CodeCancelled, c.outcome(t, 1).Code)
		require.Equal(t, []uint64{s.served[0].id}, s.cancels())
	})
}

func TestCancelDuringAnOfferComesBehindIt(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.service(), h.client()
		s.onRequest = func(turn *link.Turn, _ patterns.Request) {
			c.port.Cancel(turn, 1)
			require.Empty(t, s.cancels(), "the service does not have the request yet")
		}
		c.send(1, -1)
		require.Equal(t, patterns.CodeCancelled, c.outcome(t, 1).Code)
		require.Equal(t, []uint64{s.served[0].id}, s.cancels())
	})
}

func TestReplyDuringAnOfferIsNotCancelled(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.echo(), h.client()
		require.Equal(t, patterns.CodeOK, c.ask(t, 1).Code)
		require.Empty(t, s.cancels())
	})
}

func TestKilledNodeIsLostAtOnce(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		b.service()
		c := a.client()
		for id := range uint64(200) {
			c.send(id, time.Minute)
		}
		synctest.Wait()
		w.net.Kill(b.id)
		synctest.Wait()
		for id := range uint64(200) {
			require.Equal(t, patterns.CodeLost, c.outcome(t, id).Code)
		}
		require.Equal(t, patterns.CodeNoService, c.ask(t, 1000).Code)
	})
}

func TestNodeThatIsBackIsAMemberAgain(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c, peer := h.client(), link.ID{2}
		c.send(1, -1)
		h.View(key(), []overlay.Member{{Node: peer, Count: 1}}, true)
		for _, viewFirst := range []bool{true, false} {
			if viewFirst {
				h.View(key(), nil, true)
			}
			h.Lost(peer)
			h.View(key(), []overlay.Member{{Node: peer, Count: 1}}, true)
			clear(c.replies)
			c.send(2, -1)
			turn(func(t *link.Turn) { h.Message(t, peer, replyMessage(o.sent[len(o.sent)-1].id(), 0, "x")) })
			require.Equal(t, patterns.CodeOK, c.outcome(t, 2).Code)
		}
	})
}

func TestRequestsOfALostNodeAreCancelled(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		c.send(1, time.Minute)
		synctest.Wait()
		w.net.Kill(a.id)
		synctest.Wait()
		require.Equal(t, []uint64{s.served[0].id}, s.cancels())
		require.False(t, s.answer(0))
	})
}

func TestNodeThatLeavesTheViewFinishesWhatItRuns(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		c.send(1, time.Minute)
		synctest.Wait()
		s.port.Withdraw()
		synctest.Wait()
		require.Zero(t, a.Known())
		c.pending(t, 1)
		require.Equal(t, patterns.CodeNoService, c.ask(t, 2).Code)
		require.True(t, s.answer(0))
		require.Equal(t, patterns.CodeOK, c.outcome(t, 1).Code)
	})
}

func TestClosedServiceLosesWhatItRan(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		for i, h := range w.hosts(1, 2) {
			s, near, far := h.service(), h.client(), w.host(byte(10+i)).client()
			near.send(1, time.Minute)
			far.send(1, time.Minute)
			synctest.Wait()
			require.Equal(t, 2, s.count())
			s.port.Close(&s.turn)
			s.port.Close(&s.turn)
			s.turn.End()
			synctest.Wait()
			require.Equal(t, patterns.CodeLost, near.outcome(t, 1).Code)
			require.Equal(t, patterns.CodeLost, far.outcome(t, 1).Code)
			require.Empty(t, s.cancels(), "it is gone")
			require.Equal(t, patterns.CodeNoService, far.ask(t, 2).Code)
		}
	})
}

func TestServiceThatClosesDuringAnOffer(t *testing.T) {
	for _, takes := range []bool{true, false} {
		inWorld(t, 0, func(t *testing.T, w *world) {
			h := w.host(1)
			closing, other, c := &closingSink{takes: takes}, h.echo(), h.client()
			other.port.Withdraw()
			closing.port = h.Attach(closing)
			<-closing.port.Serve("c")
			closing.meanwhile = func() { <-other.port.Serve("c") }
			c.send(1, -1)
			if takes {
				require.Equal(t, patterns.CodeLost, c.outcome(t, 1).Code)
				require.Zero(t, other.count(), "it may have been executed")
			} else {
				require.Equal(t, patterns.CodeOK, c.outcome(t, 1).Code)
				require.Equal(t, 1, other.count())
			}
		})
	}
}

// A closingSink closes its port while it is offered a request.
type closingSink struct {
	port      *patterns.Port
	takes     bool
	meanwhile func()
}

func (s *closingSink) Request(t *link.Turn, _ patterns.Request) bool {
	s.port.Close(t)
	s.meanwhile()
	return s.takes
}
func (s *closingSink) Reply(*link.Turn, patterns.Reply)                      {}
func (s *closingSink) Cancel(*link.Turn, uint64)                             {}
func (s *closingSink) Broadcast(*link.Turn, patterns.Message) bool           { return true }
func (s *closingSink) Event(*link.Turn, patterns.Message) bool               { return true }
func (*closingSink) Tunnel(*link.Turn, *patterns.Tunnel, patterns.Open) bool { return false }

func TestClosedClientGetsNothingAndCancels(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		for id := range uint64(100) {
			c.send(id, time.Minute)
		}
		synctest.Wait()
		c.port.Close(&c.turn)
		c.turn.End()
		synctest.Wait()
		require.Len(t, s.cancels(), 100)
		require.Empty(t, c.replies)
		c.send(1000, time.Minute)
		require.Equal(t, 100, s.count())
	})
}

func TestDrainFinishesWhatRunsAndTakesNothingNew(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		c.send(1, time.Minute)
		synctest.Wait()

		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := b.Drain(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "1 requests and ends of tunnels still run")

		drained := make(chan error, 2)
		for range 2 {
			go func() { drained <- b.Drain(context.Background()) }()
		}
		require.Equal(t, patterns.CodeNoService, c.ask(t, 2).Code)
		late := b.client()
		<-late.port.Serve("c")
		require.Equal(t, patterns.CodeNoService, late.ask(t, 1).Code)
		require.Empty(t, drained)
		s.answer(0)
		require.NoError(t, <-drained)
		require.NoError(t, <-drained)
		require.Equal(t, patterns.CodeOK, c.outcome(t, 1).Code)
	})
}

func TestDrainingNodeRefusesWithTheBody(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		s := h.client()
		<-s.port.Serve("c")
		require.NoError(t, h.Drain(t.Context()))
		synctest.Wait()
		require.Equal(t, []int{1, 0}, o.announced)
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(5<<20, 1000, "body")) })
		require.Equal(t, refusalMessage(5<<20, 2, "body"), o.sent[0].body)
		require.EqualValues(t, 77, o.sent[0].flow)
	})
}

func TestServeIsConfirmedWhenRunEnds(t *testing.T) {
	n, err := patterns.New(patterns.Config{Overlay: &manualOverlay{}})
	require.NoError(t, err)
	before := n.Attach(nil).Serve("c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, n.Run(ctx))
	<-before
	<-n.Attach(nil).Serve("c")
}

func TestOutcomeWithoutRoomIsToldLater(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		s := h.client()
		s.port.Serve("c")
		s.onRequest = s.reply
		o.fail(errors.New("full"))
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(1<<20, 1<<32-1, "x")) })
		time.Sleep(time.Second)
		require.Empty(t, o.sent)
		o.fail(nil)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		require.Len(t, o.sent, 1)
		require.Equal(t, replyMessage(1<<20, patterns.CodeLost, ""), o.sent[0].body)

		o.fail(errors.New("full"))
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(2<<20, 1<<32-1, "x")) })
		time.Sleep(11 * time.Second)
		require.EqualValues(t, 1, h.Dropped()["unsent"])
	})
}

func TestConfigIsChecked(t *testing.T) {
	_, err := patterns.New(patterns.Config{})
	require.ErrorContains(t, err, "Overlay")
	_, err = patterns.New(patterns.Config{Overlay: &manualOverlay{}, Limit: 1<<20 + 1})
	require.ErrorContains(t, err, "Limit")
}

// turn does something in a turn of its own.
func turn(do func(t *link.Turn)) {
	var t link.Turn
	do(&t)
	t.End()
}
