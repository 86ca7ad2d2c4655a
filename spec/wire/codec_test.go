package wire

import (
	"encoding/hex"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Sizes and numbers at which a MessagePack form changes.
var edges = []uint64{0, 1, 31, 32, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}

func TestNumbersReadAsAForeignDecoderReadsThem(t *testing.T) {
	for _, v := range edges {
		for _, appendX := range []func([]byte, uint64) []byte{AppendPing, AppendPong, AppendCancel} {
			frame := appendX([]byte("before"), v)[len("before"):]
			fields := decoded(t, frame)
			require.Len(t, fields, 2)
			require.EqualValues(t, v, toUint(t, fields[1]))
		}
		got, err := ParsePing(content(t, AppendPing(nil, v)))
		require.NoError(t, err)
		require.Equal(t, v, got)
		got, err = ParsePong(content(t, AppendPong(nil, v)))
		require.NoError(t, err)
		require.Equal(t, v, got)
		got, err = ParseCancel(content(t, AppendCancel(nil, v)))
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
}

// toUint undoes a foreign decoder's choice of types.
func toUint(t testing.TB, v any) uint64 {
	t.Helper()
	switch r := reflect.ValueOf(v); {
	case r.CanUint():
		return r.Uint()
	case r.CanInt():
		return uint64(r.Int())
	}
	t.Fatalf("%T is no integer", v)
	return 0
}

func TestRequestsOfEverySizeSurvive(t *testing.T) {
	headers := EncodeHeaders(map[string]string{"traceparent": "00-1", "a": strings.Repeat("v", 300)})
	for _, size := range []int{0, 1, 200, 255, 256, 65_500, 65_535, 65_536, 1 << 20} {
		for _, h := range []Headers{nil, headers} {
			want := Request{ID: uint64(size) << 20, Cluster: []byte(strings.Repeat("ä", size%140+1)), Budget: NoDeadline, Headers: h, Payload: make([]byte, size)}
			frame := AppendRequest([]byte("before"), want)[len("before"):]
			require.Len(t, frame, want.Size())
			got, err := ParseRequest(content(t, frame))
			require.NoError(t, err)
			require.Equal(t, want, got)

			fields := decoded(t, frame)
			require.Len(t, fields, 6)
			require.Equal(t, want.ID, toUint(t, fields[1]))
			require.Equal(t, string(want.Cluster), fields[2])
			require.EqualValues(t, NoDeadline, toUint(t, fields[3]))
			require.Len(t, fields[4], h.Len())
			require.Equal(t, want.Payload, fields[5])
		}
	}
}

func TestRepliesOfEverySizeSurvive(t *testing.T) {
	for _, size := range []int{0, 1, 200, 256, 16_000, 65_536} {
		want := Reply{ID: 1 << 40, Code: CodeFailed, Text: []byte(strings.Repeat("x", min(size, MaxText))), Headers: EncodeHeaders(map[string]string{"": ""}), Payload: make([]byte, size)}
		frame := AppendReply(nil, want)
		require.Len(t, frame, want.Size())
		got, err := ParseReply(content(t, frame))
		require.NoError(t, err)
		require.Equal(t, want, got)
		fields := decoded(t, frame)
		require.Len(t, fields, 6)
		require.Equal(t, string(want.Text), fields[3])
		require.Equal(t, want.Payload, fields[5])
	}
}

func TestHelloAndWelcomeSurvive(t *testing.T) {
	hello := Hello{Min: 1, Max: 7, Cluster: []byte("upper"), Options: map[string]string{"a": "1", "b": "2"}, Features: []string{"x", "y"}}
	got, err := ParseHello(content(t, AppendHello([]byte("x"), hello)[1:]))
	require.NoError(t, err)
	require.Equal(t, hello, got)

	limits := Limits{Frame: 1, Payload: 2, Headers: 3, Name: 4, Requests: 5, Topics: 6, Tunnels: 7, Chunk: 8}
	welcome := Welcome{Version: 1, Limits: limits, Info: map[string]string{"node": "n"}, Features: []string{"x"}}
	back, err := ParseWelcome(content(t, AppendWelcome(nil, welcome)))
	require.NoError(t, err)
	require.Equal(t, welcome, back)

	fields := decoded(t, AppendWelcome(nil, welcome))
	require.Equal(t, map[string]any{"frame": int8(1), "payload": int8(2), "headers": int8(3), "name": int8(4), "requests": int8(5), "topics": int8(6), "tunnels": int8(7), "chunk": int8(8)}, fields[2])
}

func TestAWelcomeThatTellsNoLimitsMeansTheDefaults(t *testing.T) {
	w, err := ParseWelcome(content(t, encoded(t, 1, 1, map[string]int{"payload": 0, "name": 9, "new": 3}, map[string]string{}, []string{})))
	require.NoError(t, err)
	want := DefaultLimits()
	want.Name = 9
	require.Equal(t, want, w.Limits)
}

func TestTheCommonVersionIsTheOneSpoken(t *testing.T) {
	v, err := Hello{Min: 1, Max: 9}.CommonVersion()
	require.NoError(t, err)
	require.EqualValues(t, Version, v)
	_, err = Hello{Min: 2, Max: 9}.CommonVersion()
	require.ErrorContains(t, err, "version: this node speaks version 1, the client 2 to 9")
}

func TestReasonsAreMendedRatherThanBroken(t *testing.T) {
	long := strings.Repeat("ä", MaxText) // twice as many bytes
	code, text, err := ParseBye(content(t, AppendBye(nil, CodeMalformed, long+"\xff")))
	require.NoError(t, err)
	require.Equal(t, CodeMalformed, code)
	require.Equal(t, long[:MaxText], text)

	code, text, err = ParseRefuse(content(t, AppendRefuse(nil, CodeName, "a\xffb")))
	require.NoError(t, err)
	require.Equal(t, CodeName, code)
	require.Equal(t, "a?b", text)

	odd := "x" + long // a character lies across the limit
	r, err := ParseReply(content(t, AppendReply(nil, Reply{Text: []byte(odd)})))
	require.NoError(t, err)
	require.Equal(t, odd[:MaxText-1], string(r.Text))
}

func TestHeadersAreAMapOfStrings(t *testing.T) {
	m := map[string]string{"b": "2", "a": "1", "bad\xff": "\xfe"}
	h := EncodeHeaders(m)
	var names []string
	for name := range h.All() {
		names = append(names, name)
	}
	require.Equal(t, []string{"a", "b", "bad\uFFFD"}, names)
	require.Equal(t, map[string]string{"a": "1", "b": "2", "bad\uFFFD": "\uFFFD"}, maps.Collect(h.All()))
	require.Equal(t, 3, h.Len())
	for range h.All() {
		break // yields no more
	}
	require.Nil(t, EncodeHeaders(nil))
	require.Empty(t, maps.Collect(Headers(nil).All()))

	parsed, err := ParseHeaders(h)
	require.NoError(t, err)
	require.Equal(t, h, parsed)
	for _, bad := range []string{"81", "81a161", "81a16101", "80ff", "df ff ff ff ff", "a0"} {
		_, err := ParseHeaders(unhex(t, bad))
		require.Error(t, err, bad)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestIntegersMayTakeAnyWidth(t *testing.T) {
	for _, form := range []string{"05", "cc05", "cd0005", "ce00000005", "cf0000000000000005", "d005", "d10005", "d200000005", "d30000000000000005"} {
		got, err := ParseCancel(unhex(t, "9212"+form))
		require.NoError(t, err, form)
		require.EqualValues(t, 5, got)
	}
	for _, form := range []string{"ff", "e0", "d0ff", "d18000", "d2ffffffff", "d38000000000000000"} {
		_, err := ParseCancel(unhex(t, "9212"+form))
		require.ErrorContains(t, err, "negative", form)
	}
}

func TestTruncatedAtEveryByteIsAnErrorNotACrash(t *testing.T) {
	for _, whole := range wholes(t) {
		for n := range whole {
			_, err := parseAny(whole[:n])
			require.Error(t, err, "%d of % x", n, whole)
		}
		_, err := parseAny(append(whole, 0xc0))
		require.ErrorContains(t, err, "3.6")
	}
}

func TestFurtherFieldsAreIgnoredToADepth(t *testing.T) {
	further := "c0 c2 cb7ff8000000000000 c70501 0000000000 d80100000000000000000000000000000000 81a16190 dc000101 de000101c3"
	id, err := ParseCancel(unhex(t, "9a 12 07"+further))
	require.NoError(t, err)
	require.EqualValues(t, 7, id)

	_, err = ParseCancel(unhex(t, "93 12 07"+strings.Repeat("91", maxDepth-1)+"c0"))
	require.NoError(t, err)
	_, err = ParseCancel(unhex(t, "93 12 07"+strings.Repeat("91", maxDepth)+"c0"))
	require.ErrorContains(t, err, "3.5")
	_, err = ParseCancel(unhex(t, "93 12 07 c1"))
	require.ErrorContains(t, err, "3.3")
}

func TestCodesAndOpsHaveNames(t *testing.T) {
	require.Equal(t, "no-service", CodeNoService.String())
	require.Equal(t, "code 200", Code(200).String())
	require.Equal(t, "request", OpRequest.String())
	require.Equal(t, "unknown", Op(0x70).String())
}

// parseAny parses content as what it says it is, and returns it encoded again.
func parseAny(content []byte) ([]byte, error) {
	op, err := ParseOp(content)
	if err != nil {
		return nil, err
	}
	switch op {
	case OpHello:
		return again(ParseHello, AppendHello)(content)
	case OpWelcome:
		return again(ParseWelcome, AppendWelcome)(content)
	case OpRequest:
		return again(ParseRequest, AppendRequest)(content)
	case OpReply:
		return again(ParseReply, AppendReply)(content)
	case OpPing:
		return again(ParsePing, AppendPing)(content)
	case OpPong:
		return again(ParsePong, AppendPong)(content)
	case OpCancel:
		return again(ParseCancel, AppendCancel)(content)
	case OpDrain:
		return AppendDrain(nil), ParseDrain(content)
	case OpDrained:
		return AppendDrained(nil), ParseDrained(content)
	case OpLeaving:
		return AppendLeaving(nil), ParseLeaving(content)
	case OpCredit:
		kind, n, err := ParseCredit(content)
		return AppendCredit(nil, kind, n), err
	case OpBye:
		code, text, err := ParseBye(content)
		return AppendBye(nil, code, text), err
	case OpRefuse:
		code, text, err := ParseRefuse(content)
		return AppendRefuse(nil, code, text), err
	}
	return parseMessage(op, content)
}

// parseMessage does so for relay.md 8 to 10.
func parseMessage(op Op, content []byte) ([]byte, error) {
	switch op {
	case OpBroadcast:
		return again(ParseBroadcast, AppendBroadcast)(content)
	case OpPublish:
		return again(ParsePublish, AppendPublish)(content)
	case OpEvent:
		return again(ParseEvent, AppendEvent)(content)
	case OpSubscribe:
		id, topic, err := ParseSubscribe(content)
		return AppendSubscribe(nil, id, topic), err
	case OpUnsubscribe:
		id, topic, err := ParseUnsubscribe(content)
		return AppendUnsubscribe(nil, id, topic), err
	case OpDone:
		id, code, text, err := ParseDone(content)
		return AppendDone(nil, id, code, text), err
	case OpOpen:
		return again(ParseOpen, AppendOpen)(content)
	case OpOpened:
		return again(ParseOpened, AppendOpened)(content)
	case OpData:
		return again(ParseData, AppendData)(content)
	case OpAllow:
		id, n, err := ParseAllow(content)
		return AppendAllow(nil, id, n), err
	case OpFinish:
		return again(ParseFinish, AppendFinish)(content)
	case OpAbort:
		id, code, text, err := ParseAbort(content)
		return AppendAbort(nil, id, code, text), err
	}
	panic("no parser for " + op.String())
}

func again[X any](parse func([]byte) (X, error), appendX func([]byte, X) []byte) func([]byte) ([]byte, error) {
	return func(content []byte) ([]byte, error) {
		x, err := parse(content)
		return appendX(nil, x), err
	}
}
