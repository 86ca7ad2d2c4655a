package patterns_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

func members(names ...byte) []overlay.Member {
	var all []overlay.Member
	for _, name := range names {
		all = append(all, overlay.Member{Node: link.ID{name}, Count: 1})
	}
	return all
}

func TestReturnedRequestRunsAtOneOtherMember(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		w.net.Unreachable = func(_, to link.ID) bool { return to[0] == 2 || to[0] == 3 }
		hosts := w.hosts(1, 2, 3)
		away := []*session{hosts[1].echo(), hosts[2].echo()}
		c := hosts[0].client()
		c.send(1000, time.Minute)
		time.Sleep(time.Second)
		require.Equal(t, patterns.CodeNoService, c.outcome(t, 1000).Code)

		reached := []*session{w.host(4).echo(), w.host(5).echo()}
		for id := range uint64(100) {
			c.send(id, time.Minute)
			time.Sleep(10 * time.Millisecond)
			got := c.outcome(t, id)
			require.Equal(t, patterns.CodeOK, got.Code)
		}
		require.Equal(t, 100, reached[0].count()+reached[1].count())
		require.Equal(t, "h", reached[0].served[0].headers)
		require.Zero(t, away[0].count()+away[1].count())
	})
}

func TestReturnThatBeatsTheReturnOfTheSend(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		c.ask0(h)
		h.View(key(), members(2, 3), true)
		o.onSend = func(to link.ID, m []byte) {
			if m[0] == 1 && to[0] == 2 {
				h.Returned(to, m)
			}
		}
		for id := range uint64(10) {
			c.send(id, time.Minute)
			last := o.sent[len(o.sent)-1]
			require.Equal(t, link.ID{3}, last.to)
			turn(func(t *link.Turn) { _ = h.Message(t, last.to, replyMessage(last.id(), 0, "")) })
			require.Equal(t, patterns.CodeOK, c.outcome(t, id).Code)
		}
	})
}

func TestReturnedRequestThatHasEndedOrGoneOnIsIgnored(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		c.send(1, time.Minute)
		h.View(key(), members(2, 3), true)
		first := o.sent[0]
		other := link.ID{5 - first.to[0]}

		h.Returned(other, first.body) // who does not have it
		h.Returned(link.ID{99}, first.body)
		h.Returned(first.to, first.body[:20])
		h.Returned(first.to, nil)
		require.Len(t, o.sent, 1)
		turn(func(t *link.Turn) { _ = h.Message(t, first.to, refusalMessage(first.id(), 1, "1")) })
		require.Len(t, o.sent, 2)
		require.Equal(t, other, o.sent[1].to)
		h.Returned(first.to, first.body)
		require.Len(t, o.sent, 2, "it has gone on")
		c.pending(t, 1)
		turn(func(t *link.Turn) { _ = h.Message(t, other, replyMessage(first.id(), 0, "")) })
		h.Returned(other, o.sent[1].body)
		require.Equal(t, patterns.CodeOK, c.outcome(t, 1).Code)

		c.send(2, 10*time.Millisecond)
		c.send(3, time.Minute)
		cancelled := o.sent[3]
		c.port.Cancel(&c.turn, 3)
		time.Sleep(time.Second)
		synctest.Wait()
		h.Returned(o.sent[2].to, o.sent[2].body)
		h.Returned(cancelled.to, cancelled.body)
		require.Equal(t, patterns.CodeTimeout, c.outcome(t, 2).Code)
		require.Equal(t, patterns.CodeCancelled, c.outcome(t, 3).Code)
		for _, s := range o.sent[4:] {
			require.EqualValues(t, 4, s.body[0], "nothing but cancels")
		}
	})
}

func TestReturnedOutcomesAreDroppedAndCounted(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		s := h.client()
		s.port.Serve("c")
		s.onRequest = s.reply
		s.credit = 1
		turn(func(t *link.Turn) {
			_ = h.Message(t, link.ID{9}, requestMessage(1<<20, 1000, "x"))
			_ = h.Message(t, link.ID{9}, requestMessage(1<<20|1, 1000, "x"))
		})
		require.Len(t, o.sent, 2)
		for i, returned := range o.sent {
			h.Returned(link.ID{9}, returned.body)
			require.EqualValues(t, i+1, h.Dropped()["unsent"])
		}
		h.Returned(link.ID{9}, cancelMessage(1))
		require.EqualValues(t, 2, h.Dropped()["unsent"])
		require.Len(t, o.sent, 2)
		require.False(t, h.Using(link.ID{9}))
	})
}

func TestReturnedMessageGoesAroundTheNode(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		topic, view := overlay.KeyOf(overlay.KindTopic, []byte("t")), members(names(60)[1:]...)
		p := h.client()
		go p.publish("1")
		synctest.Wait()
		h.View(topic, view, true)
		synctest.Wait()
		require.Len(t, o.sent, 16)
		lost := o.sent[5]
		lo, hi := lost.body[61], lost.body[93] // the first byte of each
		require.Equal(t, lost.to[0], lo)

		h.Returned(lost.to, lost.body)
		around := o.sent[16:]
		require.NotEmpty(t, around)
		for i, s := range around {
			require.Equal(t, lo+byte(i)+1, s.to[0])
		}
		require.Equal(t, hi, around[len(around)-1].to[0], "each of the others")
		require.EqualValues(t, 1, h.Dropped()["unsent"])
		total := len(o.sent)
		h.Lost(lost.to)
		h.Returned(around[0].to, around[0].body)
		require.Len(t, o.sent, total, "nothing is left to be made up for, and that one had nothing to hand on")
		require.EqualValues(t, 2, h.Dropped()["unsent"])
	})
}

func TestNodeWhoseLinkWasGivenUpIsStillAMember(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		p := h.client()
		go p.publish("1")
		synctest.Wait()
		h.View(overlay.KeyOf(overlay.KindTopic, []byte("t")), members(2, 3), true)
		synctest.Wait()
		require.Len(t, o.sent, 2)
		h.Lost(link.ID{2})
		p.publish("2")
		require.Len(t, o.sent, 4)
	})
}

func TestReceiverInTheMiddleOfAnArcIsAgainstTheProtocol(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{}) // which is 1
		key := overlay.KeyOf(overlay.KindTopic, []byte("t"))
		s := h.subscriber()
		h.View(key, members(5, 200), true)
		require.Error(t, h.Message(new(link.Turn), link.ID{9}, treeMessage(1, 0, 100)))
		require.Error(t, h.Message(new(link.Turn), link.ID{9}, treeMessage(1, 200, 100)))
		require.EqualValues(t, 2, h.Dropped()["malformed"])
		require.Empty(t, s.got())
		require.NoError(t, h.Message(new(link.Turn), link.ID{9}, treeMessage(1, 100, 0)), "over the end of the ring, and not here")
		require.Len(t, o.sent, 1)
		require.Equal(t, link.ID{200}, o.sent[0].to)
	})
}

func TestPeerIsInUseWhileARequestIsInFlight(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		using := func(want bool, why string) {
			t.Helper()
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			require.Equal(t, want, a.Using(b.id), why)
			require.Equal(t, want, b.Using(a.id), why)
			require.False(t, a.Using(link.ID{99}))
		}
		using(false, "nothing yet")
		c.send(1, time.Minute)
		using(true, "asked")
		s.answer(0)
		using(false, "answered")
		c.send(2, time.Minute)
		using(true, "asked")
		c.port.Cancel(&c.turn, 2)
		c.turn.End()
		using(false, "cancelled")
		c.send(3, 50*time.Millisecond)
		using(true, "asked")
		time.Sleep(60 * time.Millisecond)
		using(false, "timed out")
		s.mu.Lock()
		s.credit = 0
		s.mu.Unlock()
		c.send(4, time.Minute)
		using(false, "refused")
		s.mu.Lock()
		s.credit = 1
		s.mu.Unlock()
		c.send(5, time.Minute)
		using(true, "asked")
		w.net.Kill(b.id)
		using(false, "lost")
	})
}

func TestPeerIsInUseWhileATunnelIsOpenOrOpening(t *testing.T) {
	inWorld(t, 10*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		var asked *end
		takes := true
		s := b.peer(func(e *end, _ *link.Turn, _ patterns.Open) bool {
			asked = e
			return takes
		})
		c := a.peer(nil)
		using := func(wantA, wantB bool, why string) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, wantA, a.Using(b.id), why)
			require.Equal(t, wantB, b.Using(a.id), why)
		}
		rest := func() { time.Sleep(100 * time.Millisecond) }
		c.open(time.Minute, 0).abort(patterns.CodeFailed) // now the view is in
		rest()
		using(false, false, "aborted")

		e := c.open(time.Minute, 1000)
		using(true, false, "the stream is being opened")
		rest()
		using(true, true, "offered")
		asked.accept(1000)
		rest()
		using(true, true, "open")
		e.finish()
		rest()
		using(true, true, "half finished")
		asked.finish()
		rest()
		using(false, false, "finished")

		e = c.open(time.Minute, 1000)
		rest()
		e.abort(patterns.CodeFailed)
		using(false, true, "aborted on one side")
		rest()
		using(false, false, "aborted")

		c.open(50*time.Millisecond, 1000)
		rest()
		rest()
		using(false, false, "timed out")

		takes = false
		c.open(time.Minute, 1000)
		rest()
		using(false, false, "refused")
		takes = true

		c.open(time.Minute, 1000)
		rest()
		using(true, true, "offered")
		s.close()
		rest()
		using(false, false, "the session is gone")
	})
}

func TestUnreachableMemberIsPassedOverForATunnel(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		w.net.Unreachable = func(_, to link.ID) bool { return to[0] == 2 }
		hosts := w.hosts(1, 2, 3)
		hosts[1].peer(accepting(0))
		hosts[2].peer(accepting(0))
		c := hosts[0].peer(nil)
		for range 10 {
			e := c.open(time.Minute, 0)
			time.Sleep(10 * time.Millisecond)
			require.Equal(t, "opened 0 ah", e.story(t))
			require.False(t, hosts[0].Using(link.ID{2}))
			e.abort(patterns.CodeFailed)
		}
		settled(t, w, hosts...)
	})
}
