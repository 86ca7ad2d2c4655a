package patterns_test

import (
	"context"
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
	"github.com/project-iris/iris/stack/patterns/patternstest"
)

// A world is a network of nodes in a bubble of virtual time.
type world struct {
	t   *testing.T
	net *patternstest.Network
	ctx context.Context
	wg  sync.WaitGroup
}

// inWorld runs a story. Whatever it leaves behind makes the bubble fail.
func inWorld(t *testing.T, delay time.Duration, story func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w := &world{t: t, net: patternstest.New(), ctx: ctx}
		w.net.Delay = delay
		w.wg.Go(func() { w.net.Run(ctx) })
		defer w.wg.Wait()
		defer cancel()
		story(t, w)
	})
}

// A host is one node of a world.
type host struct {
	*patterns.Node
	w       *world
	id      link.ID
	overlay *patternstest.Overlay
}

func (w *world) host(name byte) *host { return w.hostOf(patterns.Config{}, name) }

func (w *world) hostOf(cfg patterns.Config, name byte) *host {
	if cfg.Seed == 0 {
		cfg.Seed = uint64(name)
	}
	return w.hostAt(cfg, link.ID{name})
}

func (w *world) hostAt(cfg patterns.Config, id link.ID) *host {
	h := &host{w: w, id: id}
	h.overlay = w.net.Join(h.id)
	cfg.Self, cfg.Overlay = h.id, h.overlay
	var err error
	h.Node, err = patterns.New(cfg)
	require.NoError(w.t, err)
	h.overlay.Handler = h.Node
	w.wg.Go(func() { _ = h.Run(w.ctx) })
	return h
}

func (w *world) hosts(names ...byte) []*host {
	var all []*host
	for _, name := range names {
		all = append(all, w.host(name))
	}
	return all
}

// A session is an application: it keeps what it gets.
type session struct {
	port *patterns.Port
	turn link.Turn

	mu        sync.Mutex
	credit    int // requests that it takes yet; negative: any number
	served    []served
	cancelled []uint64
	replies   map[uint64][]patterns.Reply
	onRequest func(t *link.Turn, r patterns.Request) // called without the lock
	onReply   func(id uint64)                        // called with the lock
	deaf      bool                                   // has no credit for broadcasts and events
	heard     []string                               // payloads of broadcasts and events
}

type served struct {
	id      uint64
	budget  time.Duration
	payload string
	headers string
}

func (h *host) client() *session {
	s := &session{credit: -1, replies: make(map[uint64][]patterns.Reply)}
	s.port = h.Attach(s)
	return s
}

// service attaches a session that serves "c" and waits until everybody knows.
// It does not answer by itself.
func (h *host) service() *session {
	s := h.client()
	<-s.port.Serve("c")
	return s
}

// echo attaches a session that serves "c" and answers at once.
func (h *host) echo() *session {
	s := h.service()
	s.onRequest = s.reply
	return s
}

// slow attaches a session that serves "c" and answers after d.
func (h *host) slow(d time.Duration) *session {
	s := h.service()
	s.onRequest = func(_ *link.Turn, r patterns.Request) {
		r.Payload = slices.Clone(r.Payload)
		time.AfterFunc(d, func() {
			var t link.Turn
			s.reply(&t, r)
			t.End()
		})
	}
	return s
}

func (s *session) reply(t *link.Turn, r patterns.Request) {
	s.port.Reply(t, patterns.Reply{ID: r.ID, Payload: append([]byte("re:"), r.Payload...)})
}

func (s *session) Request(t *link.Turn, r patterns.Request) bool {
	s.mu.Lock()
	if s.credit == 0 {
		s.mu.Unlock()
		return false
	}
	s.credit--
	s.served = append(s.served, served{r.ID, r.Budget, string(r.Payload), string(r.Headers)})
	handle := s.onRequest
	s.mu.Unlock()
	if handle != nil {
		handle(t, r)
	}
	return true
}

func (s *session) Reply(_ *link.Turn, r patterns.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Text, r.Headers, r.Payload = slices.Clone(r.Text), slices.Clone(r.Headers), slices.Clone(r.Payload)
	s.replies[r.ID] = append(s.replies[r.ID], r)
	if s.onReply != nil {
		s.onReply(r.ID)
	}
}

func (s *session) Cancel(_ *link.Turn, id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled = append(s.cancelled, id)
}

func (s *session) Broadcast(_ *link.Turn, m patterns.Message) bool { return s.hear(m) }
func (s *session) Event(_ *link.Turn, m patterns.Message) bool     { return s.hear(m) }

func (s *session) hear(m patterns.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.deaf {
		s.heard = append(s.heard, string(m.Payload))
	}
	return !s.deaf
}
func (*session) Tunnel(*link.Turn, *patterns.Tunnel, patterns.Open) bool { return false }

// send sends a request to "c" whose payload is its id.
func (s *session) send(id uint64, budget time.Duration) {
	s.port.Request(&s.turn, patterns.Request{ID: id, Cluster: []byte("c"), Budget: budget, Headers: []byte("h"), Payload: fmt.Append(nil, id)})
	s.turn.End()
}

// ask sends a request and yields its outcome, which must have come when
// everything has come to rest.
func (s *session) ask(t *testing.T, id uint64) patterns.Reply {
	t.Helper()
	s.send(id, time.Minute)
	synctest.Wait()
	return s.outcome(t, id)
}

// outcome yields the one outcome of a request.
func (s *session) outcome(t *testing.T, id uint64) patterns.Reply {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.replies[id], 1, "outcomes of request %d", id)
	return s.replies[id][0]
}

func (s *session) pending(t *testing.T, id uint64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.replies[id], "outcomes of request %d", id)
}

func (s *session) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

func (s *session) cancels() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cancelled)
}

// answer answers the i-th request that the session was given.
func (s *session) answer(i int) bool {
	s.mu.Lock()
	id := s.served[i].id
	s.mu.Unlock()
	known := s.port.Reply(&s.turn, patterns.Reply{ID: id, Payload: []byte("late")})
	s.turn.End()
	return known
}

func key() overlay.Key { return overlay.KeyOf(overlay.KindCluster, []byte("c")) }
