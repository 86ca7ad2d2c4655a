package patterns_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

// subscriber attaches a session that has subscribed to "t", effectively.
func (h *host) subscriber() *session {
	s := h.client()
	<-s.port.Subscribe([]byte("t"))
	return s
}

// publish publishes to "t".
func (s *session) publish(event string) {
	s.port.Publish(&s.turn, patterns.Message{Name: []byte("t"), Headers: []byte("h"), Payload: []byte(event)})
	s.turn.End()
}

func (s *session) broadcast(message string) patterns.Code {
	defer s.turn.End()
	return s.port.Broadcast(&s.turn, patterns.Message{Name: []byte("c"), Payload: []byte(message)})
}

// got is what the session has heard so far.
func (s *session) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// counts the sends of each node.
type sends struct {
	mu   sync.Mutex
	from map[link.ID]int
}

func (w *world) countSends() *sends {
	s := &sends{from: make(map[link.ID]int)}
	w.net.Refuse = func(from, _ link.ID) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.from[from]++
		return nil
	}
	return s
}

func (s *sends) take() map[link.ID]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.from
	s.from = make(map[link.ID]int)
	return taken
}

func names(n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = byte(i + 1)
	}
	return all
}

func numbered(from, to int) []string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestEventReachesEverySubscriberOnce(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		hosts := w.hosts(1, 2, 3)
		near, far, second, other := hosts[0].subscriber(), hosts[1].subscriber(), hosts[1].subscriber(), hosts[2].client()
		<-other.port.Subscribe([]byte("another topic"))
		publisher := hosts[0].client()
		publisher.publish("1")
		near.publish("2")
		time.Sleep(time.Second)
		for _, s := range []*session{near, far, second} {
			require.ElementsMatch(t, numbered(1, 2), s.got())
		}
		require.Empty(t, other.got())
		require.Empty(t, publisher.got())
	})
}

func TestPublishWithoutSubscribersIsFine(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		c := w.host(1).client()
		require.Equal(t, patterns.CodeOK, c.port.Publish(&c.turn, patterns.Message{Name: []byte("t")}))
		require.Equal(t, patterns.CodeInvalid, c.port.Publish(&c.turn, patterns.Message{}))
	})
}

func TestBroadcastReachesTheWholeClusterAndTheSender(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		require.Equal(t, patterns.CodeNoService, a.client().broadcast("nobody"))
		sender, same, far := a.service(), a.service(), b.service()
		require.Equal(t, patterns.CodeOK, sender.broadcast("1"))
		require.Equal(t, patterns.CodeOK, b.client().broadcast("2"))
		time.Sleep(time.Second)
		for _, s := range []*session{sender, same, far} {
			require.ElementsMatch(t, numbered(1, 2), s.got())
		}
		same.port.Withdraw()
		time.Sleep(time.Second)
		sender.broadcast("3")
		require.Len(t, same.got(), 2, "it has left")
	})
}

func TestSubscriptionIsOfOnePort(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, other, p := a.subscriber(), a.subscriber(), b.client()
		require.Nil(t, s.port.Subscribe([]byte("t")), "subscribed already")
		require.True(t, s.port.Unsubscribe([]byte("t")))
		require.False(t, s.port.Unsubscribe([]byte("t")))
		require.False(t, s.port.Unsubscribe([]byte("never")))
		p.publish("1")
		require.Empty(t, s.got())
		require.Equal(t, numbered(1, 1), other.got())
		<-s.port.Subscribe([]byte("t"))
		other.port.Close(&other.turn)
		p.publish("2")
		require.Equal(t, numbered(2, 2), s.got())
		require.Equal(t, numbered(1, 1), other.got(), "closed")
	})
}

func TestConfirmedSubscriptionGetsTheNextEvent(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		hosts := w.hosts(1, 2, 3)
		first, publisher := hosts[1].subscriber(), hosts[0].client()
		publisher.publish("1") // the publisher's node knows one subscriber
		second := hosts[2].subscriber()
		publisher.publish("2")
		time.Sleep(time.Second)
		third := hosts[2].client()
		select {
		case <-third.port.Subscribe([]byte("t")):
		default:
			t.Fatal("the node's subscription was confirmed before")
		}
		publisher.publish("3")
		time.Sleep(time.Second)
		require.Equal(t, numbered(1, 3), first.got())
		require.Equal(t, numbered(2, 3), second.got())
		require.Equal(t, numbered(3, 3), third.got())
	})
}

func TestSubscriptionIsConfirmedAnewAfterTheLastOneEnded(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		s, p := a.subscriber(), b.client()
		for i := range 100 {
			require.True(t, s.port.Unsubscribe([]byte("t")))
			if i%2 == 0 {
				synctest.Wait()
			}
			<-s.port.Subscribe([]byte("t"))
			p.publish(fmt.Sprint(i + 1))
			time.Sleep(2 * time.Millisecond)
		}
		require.Equal(t, numbered(1, 100), s.got())
	})
}

func TestPublisherOfAnIdleTopicWatchesItAnew(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		p := a.client()
		p.publish("1")
		require.Equal(t, 1, a.overlay.Watches())
		time.Sleep(6 * time.Minute)
		require.Zero(t, a.overlay.Watches())
		s := b.subscriber()
		p.publish("2")
		require.Equal(t, numbered(2, 2), s.got())
	})
}

func TestPublisherWaitsForAViewASecondAtMost(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		c := h.client()
		began := time.Now()
		require.Equal(t, patterns.CodeNoService, c.broadcast("1"))
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestSlowConsumerMissesEventsAndNobodyElseDoes(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		a, b := w.host(1), w.host(2)
		deaf, healthy, service, p := b.subscriber(), b.subscriber(), b.service(), a.client()
		deaf.deaf, service.deaf = true, true
		for i := range 10 {
			p.publish(fmt.Sprint(i + 1))
		}
		p.broadcast("unheard")
		require.Equal(t, numbered(1, 10), healthy.got())
		require.Empty(t, deaf.got())
		require.EqualValues(t, 10, b.Dropped()["event"])
		require.EqualValues(t, 1, b.Dropped()["broadcast"])
		require.Zero(t, a.Dropped()["event"])
	})
}

func TestSlowLinkDelaysAPublisherOnce(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		var full sync.Map // nodes
		w.net.Refuse = func(_, to link.ID) error {
			if _, is := full.Load(to); is {
				return link.ErrFull
			}
			return nil
		}
		a, b, c := w.host(1), w.host(2), w.host(3)
		slow, healthy, p := b.subscriber(), c.subscriber(), a.client()
		p.publish("1")
		began := time.Now()
		full.Store(b.id, true)
		time.AfterFunc(500*time.Millisecond, func() { full.Delete(b.id) })
		p.publish("2")
		require.WithinDuration(t, began.Add(500*time.Millisecond), time.Now(), 20*time.Millisecond, "room came")

		full.Store(b.id, true)
		began = time.Now()
		p.publish("3")
		require.Equal(t, time.Second, time.Since(began))
		p.publish("4")
		require.Equal(t, time.Second, time.Since(began), "nobody waits for a slow node again")
		require.EqualValues(t, 2, a.Dropped()["unsent"])
		full.Delete(b.id)
		p.publish("5")
		full.Store(b.id, true)
		p.publish("6")
		require.Equal(t, 2*time.Second, time.Since(began), "it had caught up")
		require.Equal(t, numbered(1, 6), healthy.got())
		require.Equal(t, []string{"1", "2", "5"}, slow.got())
	})
}

func TestTreeReachesAllOnceWithSixteenCopiesFromEach(t *testing.T) {
	for _, n := range []int{16, 17, 18, 40, 250} {
		inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
			counted := w.countSends()
			var all []*session
			for _, h := range w.hosts(names(n)...) {
				s := h.client()
				go func() { <-s.port.Subscribe([]byte("t")) }()
				all = append(all, s)
			}
			time.Sleep(time.Second)
			all[n/2].publish("warm up")
			time.Sleep(time.Second)
			counted.take()
			all[0].publish("1")
			time.Sleep(time.Second)
			total := 0
			for from, copies := range counted.take() {
				require.LessOrEqual(t, copies, 16, "from node %d of %d", from[0], n)
				total += copies
			}
			for i, s := range all {
				require.Equal(t, []string{"warm up", "1"}, s.got(), "node %d of %d", i+1, n)
			}
			require.Equal(t, n-1, total, "copies, to %d nodes", n)
		})
	}
}

func TestPublishersStayInOrderThroughATree(t *testing.T) {
	inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
		hosts := w.hosts(names(40)...)
		var all []*session
		for _, h := range hosts[2:] {
			all = append(all, h.subscriber())
		}
		a, b := hosts[0].client(), hosts[1].client()
		for i := range 100 {
			a.publish(fmt.Sprint("a", i))
			b.publish(fmt.Sprint("b", i))
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		for _, s := range all {
			next := map[byte]int{}
			for _, event := range s.got() {
				require.Equal(t, fmt.Sprint(event[:1], next[event[0]]), event)
				next[event[0]]++
			}
			require.Equal(t, map[byte]int{'a': 100, 'b': 100}, next)
		}
	})
}

func TestDeadDelegateIsGoneAround(t *testing.T) {
	for _, victim := range names(40)[1:] { // whichever they are
		inWorld(t, time.Millisecond, func(t *testing.T, w *world) {
			var mute sync.Map // nodes that are dead, but nobody knows yet
			w.net.Drop = func(from, to link.ID) bool {
				_, isFrom := mute.Load(from)
				_, isTo := mute.Load(to)
				return isFrom || isTo
			}
			hosts := w.hosts(names(40)...)
			var all []*session
			for _, h := range hosts {
				all = append(all, h.subscriber())
			}
			all[0].publish("1")
			time.Sleep(100 * time.Millisecond)
			mute.Store(link.ID{victim}, true)
			for i := 2; i <= 50; i++ {
				all[0].publish(fmt.Sprint(i))
				time.Sleep(10 * time.Millisecond)
			}
			w.net.Kill(link.ID{victim})
			all[0].publish("51")
			time.Sleep(5 * time.Second)
			for i, s := range all {
				if i != int(victim)-1 {
					require.Equal(t, numbered(1, 51), s.got(), "node %d, node %d being dead", i+1, victim)
				}
			}
		})
	}
}

func TestDelegateWithoutAViewAsksForOne(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		key := overlay.KeyOf(overlay.KindTopic, []byte("t"))
		view := []overlay.Member{{Node: link.ID{5}, Count: 1}, {Node: link.ID{7}, Count: 1}, {Node: link.ID{200}, Count: 1}}
		var turn link.Turn
		for i := range 300 {
			h.Message(&turn, link.ID{9}, treeMessage(uint64(i+1), 1, 100))
		}
		synctest.Wait()
		require.Equal(t, []overlay.Key{key}, o.watched)
		require.EqualValues(t, 44, h.Dropped()["unsent"], "it keeps 256")
		h.View(key, view, true)
		require.Len(t, o.sent, 2*256, "to those of its interval")
		require.EqualValues(t, 45, o.sent[0].body[14])
		h.Message(&turn, link.ID{9}, treeMessage(301, 1, 100))
		require.Len(t, o.sent, 2*257)
	})
}

func TestMessageDoesNotWaitForAViewForEver(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, o := manual(w, patterns.Config{})
		h.Message(new(link.Turn), link.ID{9}, treeMessage(1, 1, 100))
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, h.Dropped()["unsent"])
		h.View(overlay.KeyOf(overlay.KindTopic, []byte("t")), []overlay.Member{{Node: link.ID{5}, Count: 1}}, true)
		require.Empty(t, o.sent)
	})
}

func TestCopiesAndLateMessagesAreDropped(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		s := h.subscriber()

		for _, sequence := range []uint64{1, 1, 4, 2, 3, 2} { // each tells of the one before it
			h.Message(new(link.Turn), link.ID{9}, treeMessage(sequence, 1, 1))
		}
		require.Equal(t, []string{"1", "2", "3", "4"}, s.got(), "4 has waited")
		require.EqualValues(t, 2, h.Dropped()["copy"])

		time.Sleep(2 * time.Second)
		h.Message(new(link.Turn), link.ID{9}, treeMessage(12, 1, 1))
		h.Message(new(link.Turn), link.ID{9}, treeMessage(11, 1, 1))
		h.Message(new(link.Turn), link.ID{9}, treeMessage(11, 1, 1))
		require.Len(t, s.got(), 4)
		time.Sleep(1400 * time.Millisecond)
		require.Len(t, s.got(), 4)
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, []string{"11", "12"}, s.got()[4:], "9 and 10 were given up")
		require.EqualValues(t, 3, h.Dropped()["copy"])

		for i := range uint64(257) {
			require.Len(t, s.got(), 6)
			h.Message(new(link.Turn), link.ID{9}, treeMessage(20+i, 1, 1))
		}
		require.Len(t, s.got(), 6+257, "more than 256 do not wait")
	})
}

func TestSecondCopyOfABroadcastOrEventIsDropped(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		s := h.subscriber()
		s.port.Serve("c")
		for i, name := range []byte("ct") { // a broadcast, then an event
			direct := append([]byte{byte(5 + i), 0, 8, 0, 0, 0, 77}, be64(1)...)
			direct = append(direct, 0, 1, 0, 0, 0, 0, name)
			direct = append(direct, "once"...)
			h.Message(new(link.Turn), link.ID{9}, direct)
			require.Len(t, s.got(), i+1)
			h.Message(new(link.Turn), link.ID{9}, direct)
			h.Message(new(link.Turn), link.ID{9}, direct)
			require.Len(t, s.got(), i+1)
			require.EqualValues(t, 2*(i+1), h.Dropped()["copy"])
		}
	})
}

func TestNewMemberDoesNotWaitLongForWhatWasBefore(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		h, _ := manual(w, patterns.Config{})
		s := h.subscriber()
		h.Message(new(link.Turn), link.ID{9}, treeMessage(7, 1, 1))
		h.Message(new(link.Turn), link.ID{9}, treeMessage(6, 1, 1))
		require.Empty(t, s.got())
		time.Sleep(110 * time.Millisecond)
		require.Equal(t, numbered(6, 7), s.got())
	})
}

// treeMessage is an event for "t" of node 10, handed on, the payload being its sequence.
func treeMessage(sequence uint64, lo, hi byte) []byte {
	b := []byte{6, 1, 8, 0, 0, 0, 77}
	b = append(b, be64(sequence)...)
	b = append(b, 0, 1, 0, 0, 0, 0)
	b = append(b, be64(sequence-1)...)
	for _, first := range []byte{10, lo, hi} {
		id := link.ID{first}
		b = append(b, id[:]...)
	}
	return fmt.Append(append(b, 't'), sequence)
}
