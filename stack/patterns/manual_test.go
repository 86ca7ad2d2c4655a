package patterns_test

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
	"github.com/project-iris/iris/stack/patterns"
)

// A manualOverlay notes what it is told, and tells nothing by itself.
type manualOverlay struct {
	mu        sync.Mutex
	watched   []overlay.Key
	unwatched []overlay.Key
	announced []int
	sent      []sent
	err       error                      // of Send
	onSend    func(to link.ID, m []byte) // called without the lock, before Send returns
}

type sent struct {
	to   link.ID
	flow uint64
	body []byte
}

// manual makes a host on an overlay of its own.
func manual(w *world, cfg patterns.Config) (*host, *manualOverlay) {
	o := &manualOverlay{}
	cfg.Self, cfg.Overlay, cfg.Seed = link.ID{1}, o, 1
	n, err := patterns.New(cfg)
	require.NoError(w.t, err)
	w.wg.Go(func() { _ = n.Run(w.ctx) })
	return &host{Node: n, w: w, id: cfg.Self}, o
}

func (o *manualOverlay) Announce(_ overlay.Group, count int) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.announced = append(o.announced, count)
	done := make(chan struct{})
	close(done)
	return done
}

func (o *manualOverlay) Watch(g overlay.Group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watched = append(o.watched, g.Key())
}

func (o *manualOverlay) Unwatch(g overlay.Group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unwatched = append(o.unwatched, g.Key())
}

func (o *manualOverlay) AwaitRoom(context.Context, link.ID, uint64) error { return nil }

func (o *manualOverlay) Send(_ *link.Turn, to link.ID, flow uint64, head, body []byte) error {
	m := slices.Concat(head, body)
	o.mu.Lock()
	hook, err := o.onSend, o.err
	if err == nil {
		o.sent = append(o.sent, sent{to, flow, m})
	}
	o.mu.Unlock()
	if hook != nil {
		hook(to, m)
	}
	return err
}

func (o *manualOverlay) OpenStream(context.Context, link.ID, link.StreamHandler) (patterns.Stream, error) {
	return nil, link.ErrClosed
}

// fail has Send fail from now on, or succeed again.
func (o *manualOverlay) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// id of a message.
func (s sent) id() uint64 { return binary.BigEndian.Uint64(s.body[1:]) }

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// Messages of peers, by the byte.

func requestMessage(id uint64, budget uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{1}, id)
	b = binary.BigEndian.AppendUint32(b, 77) // flow
	b = binary.BigEndian.AppendUint32(b, budget)
	b = append(b, 0, 1, 0, 0, 0, 0, 'c')
	return append(b, payload...)
}

func replyMessage(id uint64, code patterns.Code, payload string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{2}, id)
	b = append(b, byte(code), 0, 0, 0, 0, 0, 0, 0, 0)
	return append(b, payload...)
}

func refusalMessage(id uint64, why byte, payload string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{3}, id)
	b = append(b, why, 0, 0, 0, 0)
	return append(b, payload...)
}

func cancelMessage(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{4}, id) }
