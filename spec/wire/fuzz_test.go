package wire

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// bombs are hostile contents of frames, and hostile streams.
var bombs = []string{
	"", "c0", "c1", "90", "dd ffffffff", "df ffffffff", "de ffff", "c6 ffffffff", "db ffffffff", "c9 ffffffff 00",
	"96 10 01 a161 00 df ffffffff", "96 10 01 a161 00 df 80000000", "96 10 01 a161 00 80 c6 ffffffff", "96 10 01 db ffffffff",
	"92 12 cb 7ff8000000000000", "92 12 d3 8000000000000000", "93 12 01 dd ffffffff", "93 12 01 91919191919191919191c0",
	"97 00 a469726973 01 01 a0 df ffffffff 90", "97 00 a469726973 01 01 a0 80 dd ffffffff", "95 01 01 df ffffffff 80 90",
	"95 20 02 a163 df ffffffff", "95 20 02 a163 80 c6 ffffffff", "95 21 03 db ffffffff", "93 22 04 db ffffffff", "94 24 a174 80 c6 80000000", "94 0a 02 00 db ffffffff",
	"96 30 06 a163 00 00 df ffffffff", "94 31 06 00 df 80000000", "94 32 06 02 c400", "94 32 06 01 c6 ffffffff", "93 33 06 cf ffffffffffffffff", "94 35 06 00 db ffffffff",
	"93 09 20 da ffff", "93 02 cd 0100 a0", "9f 06 " + "c0", "dc ffff 06",
}

// wholes are valid contents, one of each op.
func wholes(t testing.TB) [][]byte {
	h := EncodeHeaders(map[string]string{"a": "1", "b": ""})
	var all [][]byte
	for _, frame := range [][]byte{
		AppendHello(nil, Hello{Min: 1, Max: 300, Cluster: []byte("c"), Options: map[string]string{"a": "b"}, Features: []string{"f"}}),
		AppendWelcome(nil, Welcome{Version: 1, Limits: DefaultLimits(), Info: map[string]string{"node": "ff"}}),
		AppendRefuse(nil, CodeVersion, "no"), AppendPing(nil, 1<<63), AppendPong(nil, 200), AppendCredit(nil, 0, MaxCredit),
		AppendDrain(nil), AppendDrained(nil), AppendLeaving(nil), AppendBye(nil, CodeOK, ""),
		AppendRequest(nil, Request{ID: 1, Cluster: []byte("c"), Budget: 1000, Headers: h, Payload: []byte("p")}),
		AppendReply(nil, Reply{ID: 1, Code: CodeFailed, Text: []byte("t"), Headers: h, Payload: []byte("p")}), AppendCancel(nil, 70_000),
		AppendBroadcast(nil, Broadcast{ID: 300, Cluster: []byte("c"), Headers: h, Payload: []byte("p")}), AppendPublish(nil, Publish{ID: 0, Topic: []byte("t"), Headers: h, Payload: []byte("p")}),
		AppendEvent(nil, Event{Topic: []byte("t"), Headers: h, Payload: []byte("p")}), AppendSubscribe(nil, 1<<32, []byte("t")), AppendUnsubscribe(nil, 200, []byte("t")),
		AppendDone(nil, 1<<63, CodeInvalid, "no"), AppendOpen(nil, Open{ID: NodeTunnel, Cluster: []byte("c"), Budget: NoDeadline, Window: 65_536, Headers: h}),
		AppendOpened(nil, Opened{ID: 5, Window: MaxCredit, Headers: h}), AppendData(nil, Data{ID: 1 << 20, Last: true, Payload: []byte("p")}), AppendAllow(nil, 6, 70_000),
		AppendFinish(nil, NodeTunnel+1), AppendAbort(nil, 6, CodeFailed, "why"),
	} {
		all = append(all, content(t, frame))
	}
	return all
}

// Whatever bytes come, a parser returns; and what it accepted is, encoded again,
// accepted with the same meaning.
func FuzzParse(f *testing.F) {
	for _, b := range bombs {
		f.Add(unhex(f, b))
	}
	for _, whole := range wholes(f) {
		f.Add(whole)
		f.Add(whole[:len(whole)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		once, err := parseAny(b)
		require.Equal(t, before, b, "a parser wrote into its input")
		if err != nil {
			var broken *Error
			require.ErrorAs(t, err, &broken)
			require.GreaterOrEqual(t, broken.Code, CodeMalformed)
			return
		}
		twice, err := parseAny(content(t, once))
		require.NoError(t, err)
		require.Equal(t, once, twice)
		if depthOK(once) {
			decoded(t, once)
		}
	})
}

// depthOK keeps a foreign decoder off frames that are too large for it.
func depthOK(frame []byte) bool { return len(frame) < 64<<10 }

// What is appended is what is parsed, here and by a foreign decoder.
func FuzzRequest(f *testing.F) {
	f.Add(uint64(1), "upper", uint32(1000), "a", "1", []byte("p"))
	f.Add(uint64(1)<<63, strings.Repeat("ä", 200), uint32(NoDeadline), "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, id uint64, cluster string, budget uint32, name, value string, payload []byte) {
		if !utf8.ValidString(cluster) || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return
		}
		headers := map[string]string{name: value}
		want := Request{id, []byte(cluster), budget, EncodeHeaders(headers), payload}
		frame := AppendRequest(nil, want)
		require.Len(t, frame, want.Size())
		got, err := ParseRequest(content(t, frame))
		require.NoError(t, err)
		require.Equal(t, id, got.ID)
		require.Equal(t, cluster, string(got.Cluster))
		require.Equal(t, budget, got.Budget)
		require.Equal(t, headers, maps.Collect(got.Headers.All()))
		require.True(t, bytes.Equal(payload, got.Payload))

		fields := decoded(t, frame)
		require.Equal(t, id, toUint(t, fields[1]))
		require.Equal(t, cluster, fields[2])
		require.EqualValues(t, budget, toUint(t, fields[3]))
		require.Equal(t, map[string]any{name: value}, fields[4])
		require.True(t, bytes.Equal(payload, fields[5].([]byte)))

		foreign, err := ParseRequest(content(t, encoded(t, uint8(OpRequest), id, cluster, budget, headers, append([]byte{}, payload...))))
		require.NoError(t, err)
		require.Equal(t, id, foreign.ID)
		require.True(t, bytes.Equal(payload, foreign.Payload))
	})
}

func FuzzHeaders(f *testing.F) {
	for _, b := range append(bombs, "82 a161 a131 a162 a0", "80", "81 a161 c0") {
		f.Add(unhex(f, b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeaders(b)
		n := 0
		for range h.All() {
			n++
		}
		require.Equal(t, h.Len(), n)
		if err == nil {
			require.LessOrEqual(t, n, MaxHeaders)
		}
		for range Headers(b).All() { // unchecked ones must not crash either
			n++
		}
	})
}

// A stream yields the same frames and the same end, however it is chopped.
func FuzzReader(f *testing.F) {
	var all []byte
	for _, whole := range wholes(f) {
		all = append(appendBinLen(all, len(whole)), whole...)
	}
	f.Add(all)
	f.Add(append(all, 0xc4))
	f.Add(stream(0, 5000, 3))
	for _, b := range bombs {
		f.Add(unhex(f, b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, end := frames(bytes.NewReader(b))
		chopped, choppedEnd := frames(iotest.OneByteReader(bytes.NewReader(b)))
		require.Equal(t, whole, chopped)
		require.Equal(t, end, choppedEnd)
		var broken *Error
		require.True(t, end == io.EOF || end == io.ErrUnexpectedEOF || errors.As(end, &broken))
	})
}

// frames reads all frames of a stream.
func frames(src io.Reader) (all [][]byte, end error) {
	r := NewReader(src, 20_000)
	for {
		content, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, bytes.Clone(content))
	}
}
