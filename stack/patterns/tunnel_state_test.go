package patterns

import (
	"encoding/hex"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
)

func opened(n uint32) event  { return event{kind: kindOpened, n: n} }
func allow(n uint32) event   { return event{kind: kindAllow, n: n} }
func data(text string) event { return event{kind: kindData, body: []byte(text)} }
func abort(c Code) event     { return event{kind: kindAbort, code: c} }
func finish() event          { return event{kind: kindFinish} }
func in(p phase) tunnelState { return tunnelState{phase: p, in: 70, out: 70} }
func finished(way string) (s tunnelState) {
	s = in(phaseOpen)
	s.finished.in, s.finished.out = way == "in", way == "out"
	return s
}

func TestWhatEachEventDoesInEachState(t *testing.T) {
	leave, arrive := (*tunnelState).leave, (*tunnelState).arrive
	for _, row := range []struct {
		name  string
		state tunnelState
		do    func(*tunnelState, event) verdict
		event event
		want  verdict
		after phase
	}{
		{"accept", in(phaseOffered), leave, opened(9), pass, phaseOpen},
		{"accept with too large a window", in(phaseOffered), leave, opened(math.MaxInt32 + 1), deny, phaseOffered},
		{"accept twice", in(phaseOpen), leave, opened(9), deny, phaseOpen},
		{"accept what one has asked for", in(phaseOpening), leave, opened(9), deny, phaseOpening},
		{"data", in(phaseOpen), leave, data("123456"), pass, phaseOpen},
		{"data beyond the allowance", in(phaseOpen), leave, data("1234567"), deny, phaseOpen},
		{"data after finish", finished("out"), leave, data(""), deny, phaseOpen},
		{"data after the other's finish", finished("in"), leave, data(""), pass, phaseOpen},
		{"data before accept", in(phaseOffered), leave, data(""), deny, phaseOffered},
		{"allow while opening", in(phaseOpening), leave, allow(1), keep, phaseOpening},
		{"allow before accept", in(phaseOffered), leave, allow(1), deny, phaseOffered},
		{"allow to the brim", in(phaseOpen), leave, allow(math.MaxInt32 - 70), pass, phaseOpen},
		{"allow beyond", in(phaseOpen), leave, allow(math.MaxInt32 - 69), deny, phaseOpen},
		{"allow far beyond", in(phaseOpen), leave, allow(math.MaxUint32), deny, phaseOpen},
		{"finish", in(phaseOpen), leave, finish(), pass, phaseOpen},
		{"finish while opening", in(phaseOpening), leave, finish(), keep, phaseOpening},
		{"finish as the second", finished("in"), leave, finish(), pass, phaseEnded},
		{"finish twice", finished("out"), leave, finish(), ignore, phaseOpen},
		{"abort while opening", in(phaseOpening), leave, abort(3), pass, phaseEnded},
		{"abort instead of accept", in(phaseOffered), leave, abort(3), pass, phaseEnded},
		{"abort", finished("out"), leave, abort(0), pass, phaseEnded},
		{"data after the end", in(phaseEnded), leave, data("1234567"), ignore, phaseEnded},
		{"abort after the end", in(phaseEnded), leave, abort(0), ignore, phaseEnded},

		{"accepted", in(phaseOpening), arrive, opened(9), pass, phaseOpen},
		{"accepted with too large a window", in(phaseOpening), arrive, opened(math.MaxUint32), deny, phaseOpening},
		{"accepted twice", in(phaseOpen), arrive, opened(9), deny, phaseOpen},
		{"accepted by who asks", in(phaseOffered), arrive, opened(9), deny, phaseOffered},
		{"refused by one", in(phaseOpening), arrive, abort(CodeOverloaded), retry, phaseOpening},
		{"refused by the service", in(phaseOpening), arrive, abort(CodeFailed), pass, phaseEnded},
		{"overloaded once open", in(phaseOpen), arrive, abort(CodeOverloaded), pass, phaseEnded},
		{"given up", in(phaseOffered), arrive, abort(CodeTimeout), pass, phaseEnded},
		{"data comes", in(phaseOpen), arrive, data("123456"), pass, phaseOpen},
		{"data comes unallowed", in(phaseOpen), arrive, data("1234567"), deny, phaseOpen},
		{"data comes before it is open", in(phaseOffered), arrive, data(""), deny, phaseOffered},
		{"data comes for the one who asks", in(phaseOpening), arrive, data(""), deny, phaseOpening},
		{"data comes after finish", finished("in"), arrive, data(""), deny, phaseOpen},
		{"data comes after own finish", finished("out"), arrive, data(""), pass, phaseOpen},
		{"too much is allowed", in(phaseOpen), arrive, allow(math.MaxInt32), deny, phaseOpen},
		{"more is allowed after the other's finish", finished("in"), arrive, allow(1), pass, phaseOpen},
		{"finish comes", in(phaseOpen), arrive, finish(), pass, phaseOpen},
		{"finish comes twice", finished("in"), arrive, finish(), deny, phaseOpen},
		{"finish comes as the second", finished("out"), arrive, finish(), pass, phaseEnded},
		{"finish comes too early", in(phaseOffered), arrive, finish(), deny, phaseOffered},
		{"data comes after the end", in(phaseEnded), arrive, data("1234567"), ignore, phaseEnded},
		{"abort comes after the end", in(phaseEnded), arrive, abort(CodeOverloaded), ignore, phaseEnded},
	} {
		s := row.state
		require.Equal(t, row.want, row.do(&s, row.event), row.name)
		require.Equal(t, row.after, s.phase, row.name)
		if row.want == deny {
			require.Equal(t, row.state, s, "%s: denied, and yet it changed something", row.name)
		}
	}
}

func TestAllowancesAreCounted(t *testing.T) {
	s := in(phaseOpen)
	require.Equal(t, pass, s.leave(data("123")))
	require.Equal(t, pass, s.arrive(data("1234")))
	require.EqualValues(t, []uint32{2, 3}, []uint32{s.in, s.out})
	require.Equal(t, pass, s.leave(allow(10)))
	require.Equal(t, pass, s.arrive(allow(20)))
	require.EqualValues(t, []uint32{12, 23}, []uint32{s.in, s.out})
}

func TestTunnelMessagesHaveTheseBytes(t *testing.T) {
	o := Open{Cluster: []byte("demo"), Budget: 1500 * time.Millisecond, Window: 7, Headers: []byte{0x80}}
	b := appendOpen(nil, o)
	require.Equal(t, "01"+"000005dc"+"00000007"+"0004"+"64656d6f"+"80", hex.EncodeToString(b))
	got, err := parseOpen(b)
	require.NoError(t, err)
	require.Equal(t, o, got)
	for want, e := range map[string]event{
		"02" + "00000009" + "80": {kind: kindOpened, n: 9, body: []byte{0x80}},
		"03" + "01" + "6869":     {kind: kindData, last: true, body: []byte("hi")},
		"03" + "00" + "6869":     {kind: kindData, body: []byte("hi")},
		"04" + "00000100":        {kind: kindAllow, n: 256},
		"05":                     {kind: kindFinish},
		"06" + "05" + "776879":   {kind: kindAbort, code: CodeFailed, body: []byte("why")},
	} {
		b := append(appendEvent(nil, e), e.body...)
		require.Equal(t, want, hex.EncodeToString(b))
		got, err := parseEvent(b)
		require.NoError(t, err)
		require.Equal(t, e, got)
	}
}

// hostileTunnel are messages that are none, or have no place before an open.
func hostileTunnel() [][]byte {
	return [][]byte{
		{}, {0}, {7}, {0xff}, {1}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 'c'},
		{1, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 1, 'c'}, {2}, {2, 0, 0, 0}, {3}, {3, 2}, {4}, {4, 0, 0, 0}, {4, 0, 0, 0, 1, 0}, {5, 0}, {6}, {6, 9},
	}
}

func TestHostileTunnelMessagesBreakTheStream(t *testing.T) {
	n, err := New(Config{Overlay: deafOverlay{}})
	require.NoError(t, err)
	for i, msg := range hostileTunnel() {
		if _, err := parseEvent(msg); err == nil {
			t.Errorf("% x was taken", msg)
		}
		s := new(noteStream)
		l := n.Incoming(link.ID{9}, s)
		l.Received(new(link.Turn), msg)
		l.Received(new(link.Turn), msg) // crosses the end
		require.Equal(t, 1, s.aborts, "% x", msg)
		require.EqualValues(t, i+1, n.Dropped()["malformed"])
	}
}

// noteStream notes what is done to it.
type noteStream struct{ sent, finishes, aborts int }

func (s *noteStream) Send(*link.Turn, []byte, []byte) error { s.sent++; return nil }
func (s *noteStream) Finish()                               { s.finishes++ }
func (s *noteStream) Abort(link.Reason)                     { s.aborts++ }

type deafTunnel struct{}

func (deafTunnel) Opened(*link.Turn, uint32, []byte) {}
func (deafTunnel) Data(*link.Turn, bool, []byte)     {}
func (deafTunnel) Allow(*link.Turn, uint32)          {}
func (deafTunnel) Finish(*link.Turn)                 {}
func (deafTunnel) Aborted(*link.Turn, Code, []byte)  {}

// acceptSink accepts every tunnel.
type acceptSink struct{ deafSink }

func (acceptSink) Tunnel(t *link.Turn, p *Tunnel, _ Open) bool {
	p.Accept(t, 100, nil, deafTunnel{})
	return true
}

func FuzzTunnelMessage(f *testing.F) {
	for _, msg := range hostileTunnel() {
		f.Add(msg)
	}
	f.Add(appendOpen(nil, Open{Cluster: []byte("c"), Budget: -1, Window: 9}))
	for _, e := range []event{opened(9), data("hi"), allow(5), finish(), abort(3)} {
		f.Add(append(appendEvent(nil, e), e.body...))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if o, err := parseOpen(msg); err == nil {
			require.Equal(t, msg, appendOpen(nil, o))
		}
		if e, err := parseEvent(msg); err == nil {
			require.Equal(t, msg, append(appendEvent(nil, e), e.body...))
		}
		// A node with an open tunnel survives it twice, and ends the stream once.
		n, err := New(Config{Overlay: deafOverlay{}, Seed: 1})
		require.NoError(t, err)
		p := n.Attach(acceptSink{})
		p.Serve("c")
		s := new(noteStream)
		l := n.Incoming(link.ID{9}, s)
		l.Received(new(link.Turn), appendOpen(nil, Open{Cluster: []byte("c"), Budget: -1}))
		require.Equal(t, 1, s.sent)
		for range 2 {
			l.Received(new(link.Turn), msg)
		}
		p.Close(new(link.Turn))
		l.Finished()
		l.Broken(link.ErrClosed)
		require.Equal(t, 1, s.finishes+s.aborts)
		require.Zero(t, n.running.Load())
	})
}
