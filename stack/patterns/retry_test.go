package patterns_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

func TestRefusedRequestGoesToAnotherMember(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a := w.host(1)
		busy := []*session{w.host(2).service(), w.host(3).service(), w.host(4).service()}
		for _, s := range busy {
			s.credit = 0
		}
		free := w.host(5).echo()
		c := a.client()
		for id := range uint64(50) {
			got := c.ask(t, id)
			require.Equal(t, patterns.CodeOK, got.Code)
		}
		require.Equal(t, 50, free.count())
		require.Equal(t, "h", free.served[0].headers, "the refusal has returned it")
	})
}

func TestLocalRefusalGoesToAnotherMember(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a := w.host(1)
		for range 3 {
			a.service().credit = 0
		}
		far := w.host(2).echo()
		require.Equal(t, patterns.CodeOK, a.client().ask(t, 1).Code)
		require.Equal(t, 1, far.count())
	})
}

func TestAllRefusedIsOverloaded(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a := w.host(1)
		for name := byte(1); name < 5; name++ {
			h := a
			if name > 1 {
				h = w.host(name)
			}
			h.service().credit = 0
		}
		require.Equal(t, patterns.CodeOverloaded, a.client().ask(t, 1).Code)
	})
}

func TestMembersWithoutServiceAreNoService(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a := w.host(1)
		b := w.host(2)
		c := a.client()
		c.ask(t, 1)
		// The view is late: b has nobody any more.
		a.View(key(), []overlay.Member{{Node: b.id, Count: 1}}, true)
		require.Equal(t, patterns.CodeNoService, c.ask(t, 2).Code)
	})
}

func TestRefusedTwiceByNobodyAndSixteenTimesAtMost(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		var view []overlay.Member
		for name := byte(2); name < 40; name++ {
			view = append(view, overlay.Member{Node: link.ID{name}, Count: 1})
		}
		c.send(1, -1)
		h.View(key(), view, true)
		asked := make(map[link.ID]int)
		for i := 0; i < len(o.sent); i++ {
			s := o.sent[i]
			asked[s.to]++
			require.Equal(t, "1", string(s.body[len(s.body)-1:]))
			turn(func(t *link.Turn) { h.Message(t, s.to, refusalMessage(s.id(), 1, "1")) })
		}
		require.Len(t, asked, 16)
		require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 1).Code)
	})
}

func TestMemberThatRefusedIsNotAskedAgainWhenItIsBack(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		both := []overlay.Member{{Node: link.ID{2}, Count: 1}, {Node: link.ID{3}, Count: 1}}
		c.send(1, -1)
		h.View(key(), both, true)
		refuse := func(i int) {
			turn(func(t *link.Turn) { h.Message(t, o.sent[i].to, refusalMessage(o.sent[i].id(), 1, "1")) })
		}
		refuse(0)
		gone := o.sent[0].to
		h.View(key(), []overlay.Member{{Node: o.sent[1].to, Count: 1}}, true)
		h.Lost(gone)
		h.View(key(), both, true)
		refuse(1)
		require.Len(t, o.sent, 2)
		require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 1).Code)
	})
}

func TestMemberThatRefusesIsAskedLast(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		c.send(0, -1)
		h.View(key(), []overlay.Member{{Node: link.ID{2}, Count: 1}, {Node: link.ID{3}, Count: 1}}, true)
		refusals := 0
		for i := 0; i < len(o.sent); i++ {
			s := o.sent[i]
			turn(func(t *link.Turn) {
				if s.to[0] == 2 {
					refusals++
					h.Message(t, s.to, refusalMessage(s.id(), 1, "1"))
					return
				}
				h.Message(t, s.to, replyMessage(s.id(), 0, ""))
			})
			if next := uint64(i) + 1; s.to[0] == 3 && next < 16 {
				c.send(next, -1)
			}
		}
		require.LessOrEqual(t, refusals, 2)
	})
}

func TestUnsentRequestGoesToAnotherMember(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		refused := 0
		w.net.Refuse = func(_, to link.ID) error {
			if to[0] < 5 && to[0] != 1 {
				refused++
				return errors.New("full")
			}
			return nil
		}
		a := w.host(1)
		for name := byte(2); name < 5; name++ {
			w.host(name).echo()
		}
		c := a.client()
		require.Equal(t, patterns.CodeOverloaded, c.ask(t, 1).Code)
		require.Equal(t, 3, refused)
		free := w.host(5).echo()
		require.Equal(t, patterns.CodeOK, c.ask(t, 2).Code)
		require.Equal(t, 1, free.count())
	})
}

func TestRefusalThatBeatsTheReturnOfTheSend(t *testing.T) {
	for _, err := range []error{nil, errors.New("a lie: it has arrived")} {
		inWorld(t, 0, func(t *testing.T, w *world) {
			h, o := manual(w, patterns.Config{})
			c := h.client()
			c.ask0(h)
			o.fail(err)
			o.onSend = func(to link.ID, m []byte) {
				if m[0] == 1 && to[0] == 2 {
					turn(func(t *link.Turn) { h.Message(t, to, refusalMessage(sent{body: m}.id(), 1, "x")) })
				}
			}
			c.send(1, time.Second)
			synctest.Wait()
			h.View(key(), []overlay.Member{{Node: link.ID{2}, Count: 1}}, true)
			require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 1).Code)
			c.send(2, time.Second)
			require.Equal(t, patterns.CodeOverloaded, c.outcome(t, 2).Code)
		})
	}
}

// ask0 does nothing yet but have the group watched.
func (s *session) ask0(h *host) {
	s.send(1<<60, time.Nanosecond)
	time.Sleep(10 * time.Millisecond)
}

func TestOnlyTheMemberThatHasARequestCanEndIt(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		c := h.client()
		c.send(1, -1)
		member, stranger := link.ID{2}, link.ID{3}
		h.View(key(), []overlay.Member{{Node: member, Count: 1}}, true)
		id := o.sent[0].id()
		turn(func(t *link.Turn) {
			h.Message(t, stranger, replyMessage(id, 0, ""))
			h.Message(t, stranger, refusalMessage(id, 1, ""))
			h.Message(t, stranger, requestMessage(id, 1000, "")) // now it is known
			h.Message(t, stranger, replyMessage(id, 0, ""))
			h.Message(t, stranger, refusalMessage(id, 1, ""))
			h.Message(t, stranger, cancelMessage(id))
			h.Message(t, member, cancelMessage(id))
			h.Message(t, member, replyMessage(id+1<<20, 0, ""))
			h.Message(t, member, replyMessage(id+1, 0, ""))
		})
		c.pending(t, 1)
		turn(func(t *link.Turn) { h.Message(t, member, replyMessage(id, 0, "mine")) })
		require.Equal(t, "mine", string(c.outcome(t, 1).Payload))
		turn(func(t *link.Turn) { h.Message(t, member, replyMessage(id, 0, "mine")) })
		c.outcome(t, 1)
		require.EqualValues(t, 7, h.Dropped()["unknown"])
	})
}

func TestSecondCopyOfARequestIsDropped(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		s := h.client()
		s.port.Serve("c")
		peer, other := link.ID{9}, link.ID{8}
		inject := func(from link.ID, id uint64) {
			turn(func(t *link.Turn) { h.Message(t, from, requestMessage(id, 1<<32-1, "x")) })
		}
		inject(peer, 2<<20|5)
		inject(peer, 2<<20|5) // while it runs
		require.Equal(t, 1, s.count())
		s.answer(0)
		inject(peer, 2<<20|5) // after it
		inject(peer, 1<<20|5) // an older one of the same index
		require.Equal(t, 1, s.count())
		require.EqualValues(t, 3, h.Dropped()["copy"])
		inject(other, 2<<20|5)
		inject(peer, 3<<20|5)
		inject(peer, 1<<20|6)
		inject(peer, 1<<64-1)
		require.Equal(t, 5, s.count())
	})
}

func TestRequestOfAPeerIsNeverPassedOn(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		h.client().send(1, -1)
		h.View(key(), []overlay.Member{{Node: link.ID{2}, Count: 1}}, true)
		s := h.client()
		s.credit = 0
		s.port.Serve("c")
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(1<<20, 1000, "x")) })
		require.Equal(t, refusalMessage(1<<20, 1, "x"), o.sent[len(o.sent)-1].body)
		require.Equal(t, link.ID{9}, o.sent[len(o.sent)-1].to)
		s.port.Withdraw()
		turn(func(t *link.Turn) { h.Message(t, link.ID{9}, requestMessage(2<<20, 1000, "x")) })
		require.Equal(t, refusalMessage(2<<20, 3, "x"), o.sent[len(o.sent)-1].body)
	})
}
