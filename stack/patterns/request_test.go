package patterns_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

func TestRequestIsAnsweredOnOneNode(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.echo(), h.client()
		got := c.ask(t, 7)
		require.Equal(t, patterns.Reply{ID: 7, Payload: []byte("re:7")}, got)
		require.Equal(t, "h", s.served[0].headers)
	})
}

func TestRequestIsAnsweredAcrossNodes(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.echo(), a.client()
		c.send(7, time.Minute)
		time.Sleep(3 * time.Millisecond)
		got := c.outcome(t, 7)
		require.Equal(t, patterns.CodeOK, got.Code)
		require.Equal(t, "re:7", string(got.Payload))
		require.Equal(t, "h", s.served[0].headers)
	})
}

func TestRequestsOfOneClientArriveInOrder(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		c.send(0, -1)
		time.Sleep(10 * time.Millisecond) // the view is in
		for id := range uint64(100) {
			c.send(1+id, -1)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		require.Len(t, s.served, 101)
		for i, r := range s.served {
			require.Equal(t, fmt.Sprint(i), r.payload)
		}
	})
}

func TestEmptyRepliesAndErrorsWithoutTextKeepTheirCode(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		for _, h := range []*host{a, b} {
			s, c := h.service(), a.client()
			s.onRequest = func(t *link.Turn, r patterns.Request) {
				s.port.Reply(t, patterns.Reply{ID: r.ID, Code: patterns.Code(len(r.Payload)-1) * patterns.CodeFailed})
			}
			ok, failed := c.ask(t, 1), c.ask(t, 10)
			require.Equal(t, patterns.CodeOK, ok.Code)
			require.Equal(t, patterns.CodeFailed, failed.Code)
			require.Empty(t, failed.Text)
			s.onRequest = func(t *link.Turn, r patterns.Request) {
				s.port.Reply(t, patterns.Reply{ID: r.ID, Code: 200})
			}
			require.Equal(t, patterns.CodeFailed, c.ask(t, 2).Code)
			s.port.Close(&s.turn)
			synctest.Wait()
		}
	})
}

func TestUnknownClusterIsNoServiceAtOnce(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		h, _ := w.host(1), w.host(2)
		require.Equal(t, patterns.CodeNoService, h.client().ask(t, 1).Code)
	})
}

func TestFirstRequestsWaitForTheFirstView(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		payload := []byte("kept")
		c.port.Request(&c.turn, patterns.Request{ID: 1, Cluster: []byte("c"), Budget: time.Second, Headers: payload, Payload: payload})
		copy(payload, "gone") // valid until return only
		c.send(2, 10*time.Millisecond)
		c.send(3, time.Second)
		c.port.Cancel(&c.turn, 3)
		synctest.Wait()
		require.Equal(t, []overlay.Key{key()}, o.watched)
		require.Empty(t, o.sent)
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, patterns.CodeTimeout, c.outcome(t, 2).Code)
		require.Equal(t, patterns.CodeCancelled, c.outcome(t, 3).Code)

		h.View(key(), []overlay.Member{{Node: link.ID{9}, Count: 1}}, true)
		require.Len(t, o.sent, 1)
		require.Contains(t, string(o.sent[0].body), "keptkept")
		require.EqualValues(t, 950, be32(o.sent[0].body[13:]), "the budget that is left travels")
	})
}

func TestParkedRequestsAreBounded(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		c := h.client()
		for id := range uint64(4096) {
			c.send(id, time.Minute)
		}
		c.pending(t, 4095)
		c.send(4096, time.Minute)
		require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 4096).Code)
		h.View(key(), nil, true)
		require.Equal(t, patterns.CodeNoService, c.outcome(t, 4095).Code)

		big := make([]byte, 1<<20)
		for id := range uint64(65) {
			c.port.Request(&c.turn, patterns.Request{ID: 10000 + id, Cluster: []byte("d"), Budget: -1, Payload: big})
		}
		c.pending(t, 10063)
		require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 10064).Code)
		c.port.Close(&c.turn)
	})
}

func TestLocalMemberServesBeforeTheFirstView(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		s, c := h.client(), h.client()
		s.port.Serve("c")
		s.onRequest = s.reply
		require.Equal(t, patterns.CodeOK, c.ask(t, 1).Code)
	})
}

func TestRequestsBeyondTheLimitAreOverloaded(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.hostOf(patterns.Config{Limit: 2}, 1)
		s, c := h.service(), h.client()
		c.send(1, -1)
		c.send(2, -1)
		require.Equal(t, patterns.CodeOverloaded, c.ask(t, 3).Code)
		require.True(t, s.answer(0))
		c.send(4, -1)
		c.pending(t, 4)
		require.Equal(t, 3, s.count())
	})
}

func TestInvalidRequestsAreTurnedAway(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.service(), h.client()
		for _, name := range [][]byte{nil, make([]byte, 65536)} {
			c.port.Request(&c.turn, patterns.Request{ID: 1, Cluster: name, Budget: -1})
			require.Equal(t, patterns.CodeInvalid, c.outcome(t, 1).Code)
			delete(c.replies, 1)
		}
		c.send(2, -1)
		c.send(2, -1)
		require.Equal(t, patterns.CodeInvalid, c.outcome(t, 2).Code)
		require.Equal(t, 1, s.count())
	})
}

func TestSessionsCannotAnswerForOthers(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h := w.host(1)
		s, c := h.service(), h.client()
		c.send(1, -1)
		require.False(t, c.port.Reply(&c.turn, patterns.Reply{ID: s.served[0].id}))
		require.False(t, s.port.Reply(&s.turn, patterns.Reply{ID: s.served[0].id + 1<<20}), "a later generation")
		require.False(t, s.port.Reply(&s.turn, patterns.Reply{ID: 1<<64 - 1}))
		c.pending(t, 1)
		require.True(t, s.answer(0))
		require.False(t, s.answer(0), "a second reply")
		require.EqualValues(t, 4, h.Dropped()["unknown"])
	})
}

func TestGroupsAreForgottenWhenIdle(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, c := b.service(), a.client()
		c.send(1, -1)
		synctest.Wait()
		require.Equal(t, 1, a.overlay.Watches())
		require.Equal(t, 1, a.Known())
		time.Sleep(6 * time.Minute)
		require.Equal(t, 1, a.overlay.Watches(), "a request is in flight")
		s.answer(0)
		time.Sleep(6 * time.Minute)
		require.Zero(t, a.overlay.Watches())
		require.Zero(t, a.Known())
		s.onRequest = s.reply
		require.Equal(t, patterns.CodeOK, c.ask(t, 2).Code, "watched again")
	})
}

func TestNodeThatServesAClusterKeepsItsView(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		near, c := a.echo(), a.client()
		c.ask(t, 1)
		time.Sleep(6 * time.Minute)
		require.Equal(t, 1, a.overlay.Watches(), "it may have to hand on broadcasts")
		b.echo()
		near.mu.Lock()
		near.credit = 0
		near.mu.Unlock()
		require.Equal(t, patterns.CodeOK, c.ask(t, 2).Code)
		near.port.Close(&near.turn)
		time.Sleep(6 * time.Minute)
		require.Zero(t, a.overlay.Watches())
	})
}

func TestOwnNodeInAViewIsIgnored(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		c := h.client()
		c.send(1, -1)
		h.View(key(), []overlay.Member{{Node: h.id, Count: 1}, {Node: link.ID{2}, Count: 0}}, true)
		require.Equal(t, patterns.CodeNoService, c.outcome(t, 1).Code)
	})
}
