package patterns

import (
	"bytes"
	"context"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/overlay"
)

func TestMessagesHaveTheseBytes(t *testing.T) {
	request := Request{ID: 3<<20 | 5, Cluster: []byte("demo"), Budget: 1500*time.Millisecond + 1, Headers: []byte{0x81}, Payload: []byte("ask")}
	reply := Reply{ID: 7, Code: CodeFailed, Text: []byte("why"), Headers: []byte{0x80}, Payload: []byte("ok")}
	broadcast := cast{kind: kindBroadcast, hops: 8, flow: 9, sequence: 42, Message: Message{Name: []byte("demo"), Headers: []byte{0x81}, Payload: []byte("hi")}}
	event := broadcast
	event.kind, event.hops, event.tree, event.previous = kindEvent, 7, true, 41
	event.origin, event.lo, event.hi = link.ID{10}, link.ID{1}, link.ID{255}
	id := func(first string) string { return first + strings.Repeat("00", 31) }
	for want, got := range map[string][]byte{
		"01" + "0000000000300005" + "00000009" + "000005dd" + "0004" + "00000001" + "64656d6f" + "81": appendRequest(nil, 9, request),
		"02" + "0000000000000007" + "05" + "00000003" + "00000001" + "776879" + "80":                  appendReply(nil, reply),
		"03" + "0000000000000007" + "02" + "00000001" + "80":                                          appendRefusal(nil, 7, reasonDraining, []byte{0x80}),
		"04" + "0000000000000007": appendCancel(nil, 7),
		"05" + "00" + "08" + "00000009" + "000000000000002a" + "0004" + "00000001" + "64656d6f" + "81":                                                       appendCast(nil, &broadcast),
		"06" + "01" + "07" + "00000009" + "000000000000002a" + "0004" + "00000001" + "0000000000000029" + id("0a") + id("01") + id("ff") + "64656d6f" + "81": appendCast(nil, &event),
	} {
		require.Equal(t, want, hex.EncodeToString(got))
	}

	gotRequest, flow, err := parseRequest(append(appendRequest(nil, 9, request), "ask"...))
	require.NoError(t, err)
	require.EqualValues(t, 9, flow)
	request.Budget = 1501 * time.Millisecond
	require.Equal(t, request, gotRequest)
	gotReply, err := parseReply(append(appendReply(nil, reply), "ok"...))
	require.NoError(t, err)
	require.Equal(t, reply, gotReply)
	gotRefusal, err := parseRefusal(append(appendRefusal(nil, 7, reasonDraining, []byte{0x80}), "ask"...))
	require.NoError(t, err)
	require.Equal(t, refusal{7, reasonDraining, []byte{0x80}, []byte("ask")}, gotRefusal)
	cancelled, err := parseCancel(appendCancel(nil, 7))
	require.NoError(t, err)
	require.EqualValues(t, 7, cancelled)
	for _, want := range []cast{broadcast, event} {
		got, err := parseCast(append(appendCast(nil, &want), "hi"...))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestBudgetsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		-1: noBudget, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2,
		noBudget * time.Millisecond: noBudget - 1, math.MaxInt64: noBudget - 1,
	} {
		require.Equal(t, want, budgetMillis(d), "%v", d)
	}
}

// hostile are messages that are none.
func hostile() [][]byte {
	request := append(appendRequest(nil, 9, Request{ID: 1 << indexBits, Cluster: []byte("c"), Headers: []byte("h")}), "p"...)
	reply := append(appendReply(nil, Reply{ID: 1 << indexBits, Text: []byte("t"), Headers: []byte("h")}), "p"...)
	refused := append(appendRefusal(nil, 1<<indexBits, reasonDraining, []byte("h")), "p"...)
	direct, tree := castMessages()
	all := [][]byte{nil, {0}, {5}, {7}, {0xff}, append(appendCancel(nil, 1), 0)}
	for _, whole := range [][]byte{request[:len(request)-1], reply[:len(reply)-1], refused[:len(refused)-1], appendCancel(nil, 1), direct, tree} {
		for n := range whole {
			all = append(all, whole[:n])
		}
	}
	for _, bomb := range []struct {
		of []byte
		at int
	}{{request, 17}, {request, 19}, {reply, 10}, {reply, 14}, {refused, 10}} {
		b := bytes.Clone(bomb.of)
		copy(b[bomb.at:], []byte{0xff, 0xff, 0xff, 0xff}[:min(4, 2+2*(bomb.at%17))])
		all = append(all, b)
	}
	badCode, badReason := bytes.Clone(reply), bytes.Clone(refused)
	badCode[9], badReason[9] = 9, 4
	noReason := bytes.Clone(refused)
	noReason[9] = 0
	for at, value := range map[int]byte{1: 2, 2: 0, 16: 0, 17: 0xff, 28: 1, 61: 9} {
		b := bytes.Clone(tree)
		if b[at] = value; at == 2 {
			all = append(all, bytes.Clone(b))
			value = maxHops + 1
		}
		b[at] = value
		all = append(all, b)
	}
	noSequence := bytes.Clone(direct)
	noSequence[14] = 0
	return append(all, badCode, badReason, noReason, noSequence)
}

// castMessages are a message of each form, without payload.
func castMessages() (direct, tree []byte) {
	c := cast{kind: kindEvent, hops: 8, flow: 9, sequence: 1, Message: Message{Name: []byte("t"), Headers: []byte("h")}}
	direct = appendCast(nil, &c)
	c.kind, c.tree, c.origin, c.lo, c.hi = kindBroadcast, true, link.ID{10}, link.ID{1}, link.ID{8}
	c.Name = []byte("c")
	return direct, appendCast(nil, &c)
}

func TestHostileMessagesAreDropped(t *testing.T) {
	n, err := New(Config{Overlay: deafOverlay{}})
	require.NoError(t, err)
	for i, msg := range hostile() {
		require.ErrorIs(t, n.Message(new(link.Turn), link.ID{9}, msg), errMalformed, "% x", msg)
		require.EqualValues(t, i+1, n.Dropped()["malformed"], "% x", msg)
	}
}

func FuzzMessage(f *testing.F) {
	for _, msg := range hostile() {
		f.Add(msg)
	}
	f.Add(append(appendRequest(nil, 9, Request{ID: 1 << indexBits, Budget: -1, Cluster: []byte("c")}), "payload"...))
	f.Add(append(appendRequest(nil, 9, Request{ID: 1 << indexBits, Budget: 1, Cluster: []byte("d")}), "payload"...))
	f.Add(appendReply(nil, Reply{ID: 1 << indexBits, Payload: []byte("x")}))
	f.Add(appendRefusal(nil, 1<<indexBits, reasonOverloaded, nil))
	f.Add(appendCancel(nil, 1<<indexBits))
	direct, tree := castMessages()
	f.Add(append(direct, "payload"...))
	f.Add(append(tree, "payload"...))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if r, flow, err := parseRequest(msg); err == nil {
			require.Equal(t, msg, append(appendRequest(nil, flow, r), r.Payload...))
		}
		if r, err := parseReply(msg); err == nil {
			require.Equal(t, msg, append(appendReply(nil, r), r.Payload...))
		}
		if r, err := parseRefusal(msg); err == nil {
			require.Equal(t, msg, append(appendRefusal(nil, r.id, r.why, r.headers), r.payload...))
		}
		if c, err := parseCast(msg); err == nil {
			require.Equal(t, msg, append(appendCast(nil, &c), c.Payload...))
		}
		// A node with a request at the peer, and a member of its own, survives it twice.
		n, err := New(Config{Overlay: deafOverlay{}, Seed: 1})
		require.NoError(t, err)
		p := n.Attach(deafSink{})
		p.Request(new(link.Turn), Request{ID: 1, Cluster: []byte("d"), Budget: -1})
		n.View(overlay.KeyOf(overlay.KindCluster, []byte("d")), []overlay.Member{{Node: link.ID{9}, Count: 1}}, true)
		p.Serve("c")
		p.Subscribe([]byte("t"))
		n.View(overlay.KeyOf(overlay.KindCluster, []byte("c")), []overlay.Member{{Node: link.ID{2}, Count: 1}, {Node: link.ID{9}, Count: 1}}, true)
		for range 2 {
			_ = n.Message(new(link.Turn), link.ID{9}, msg)
		}
		n.Returned(link.ID{9}, msg)
		n.Returned(link.ID{3}, msg)
		n.Lost(link.ID{9})
		p.Close(new(link.Turn))
		require.Zero(t, n.slab.used)
		for _, g := range n.topics {
			require.Empty(t, g.here)
		}
		require.Zero(t, n.running.Load())
	})
}

// deafOverlay and deafSink take everything.
type deafOverlay struct{}

func (deafOverlay) Announce(overlay.Group, int) <-chan struct{}            { return nil }
func (deafOverlay) Watch(overlay.Group)                                    {}
func (deafOverlay) Unwatch(overlay.Group)                                  {}
func (deafOverlay) AwaitRoom(context.Context, link.ID, uint64) error       { return nil }
func (deafOverlay) Send(*link.Turn, link.ID, uint64, []byte, []byte) error { return nil }

func (deafOverlay) OpenStream(context.Context, link.ID, link.StreamHandler) (Stream, error) {
	return nil, link.ErrClosed
}

type deafSink struct{}

func (deafSink) Request(*link.Turn, Request) bool   { return true }
func (deafSink) Reply(*link.Turn, Reply)            {}
func (deafSink) Cancel(*link.Turn, uint64)          {}
func (deafSink) Broadcast(*link.Turn, Message) bool { return true }
func (deafSink) Event(*link.Turn, Message) bool     { return true }

func (deafSink) Tunnel(*link.Turn, *Tunnel, Open) bool { return true }

func TestWatchedGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Overlay: deafOverlay{}})
		require.NoError(t, err)
		n.maxWatched = 2
		s := new(lastReply)
		p := n.Attach(s)
		ask := func(id uint64, cluster string) {
			time.Sleep(2 * time.Second)
			*s = lastReply{}
			p.Request(new(link.Turn), Request{ID: id, Cluster: []byte(cluster), Budget: -1})
		}
		ask(1, "a")
		ask(2, "b")
		ask(3, "c")
		require.Equal(t, CodeOverloaded, s.reply.Code, "both are in use")
		require.Len(t, n.groups, 2)
		p.Cancel(new(link.Turn), 2)
		ask(4, "c")
		require.Zero(t, s.reply.Code)
		require.NotNil(t, n.groups["a"])
		require.Nil(t, n.groups["b"], "idle for longest")
		p.Cancel(new(link.Turn), 1)
		p.Cancel(new(link.Turn), 4)
		ask(5, "a")
		ask(6, "d")
		require.Nil(t, n.groups["c"], "a was used after it")
		require.Len(t, n.groups, 2)
		require.Len(t, n.keys, 2)
		require.Equal(t, 2, n.watched.Len())
	})
}

type lastReply struct{ reply Reply }

func (*lastReply) Request(*link.Turn, Request) bool   { return true }
func (s *lastReply) Reply(_ *link.Turn, r Reply)      { s.reply = r }
func (*lastReply) Cancel(*link.Turn, uint64)          {}
func (*lastReply) Broadcast(*link.Turn, Message) bool { return true }
func (*lastReply) Event(*link.Turn, Message) bool     { return true }

func (*lastReply) Tunnel(*link.Turn, *Tunnel, Open) bool { return true }
