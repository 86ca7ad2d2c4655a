package wire

import (
	"bytes"
	"maps"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The bytes that relay.md 8 to 10 draw.
func TestTheNewFramesAreTheseBytes(t *testing.T) {
	upper, news := []byte("upper"), []byte("news")
	for want, frame := range map[string][]byte{
		"c4 11 95 20 02 a5 75 70 70 65 72 80 c4 05 68 65 6c 6c 6f":    AppendBroadcast(nil, Broadcast{ID: 2, Cluster: upper, Payload: []byte("hello")}),
		"c4 0d 95 21 03 a4 6e 65 77 73 80 c4 02 68 69":                AppendPublish(nil, Publish{ID: 3, Topic: news, Payload: []byte("hi")}),
		"c4 08 93 22 04 a4 6e 65 77 73":                               AppendSubscribe(nil, 4, news),
		"c4 08 93 23 05 a4 6e 65 77 73":                               AppendUnsubscribe(nil, 5, news),
		"c4 0c 94 24 a4 6e 65 77 73 80 c4 02 68 69":                   AppendEvent(nil, Event{Topic: news, Payload: []byte("hi")}),
		"c4 05 94 0a 02 00 a0":                                        AppendDone(nil, 2, CodeOK, ""),
		"c4 12 96 30 06 a5 75 70 70 65 72 cd 03 e8 ce 00 01 00 00 80": AppendOpen(nil, Open{ID: 6, Cluster: upper, Budget: 1000, Window: 65_536}),
		"c4 09 94 31 06 ce 00 01 00 00 80":                            AppendOpened(nil, Opened{ID: 6, Window: 65_536}),
		"c4 0b 94 32 06 01 c4 05 68 65 6c 6c 6f":                      AppendData(nil, Data{ID: 6, Last: true, Payload: []byte("hello")}),
		"c4 06 94 32 06 00 c4 00":                                     AppendData(nil, Data{ID: 6}),
		"c4 04 93 33 06 45":                                           AppendAllow(nil, 6, 69),
		"c4 03 92 34 06":                                              AppendFinish(nil, 6),
		"c4 05 94 35 06 00 a0":                                        AppendAbort(nil, 6, CodeOK, ""),
	} {
		require.Equal(t, unhex(t, want), frame)
	}
}

func TestMessagesOfEverySizeSurvive(t *testing.T) {
	headers := EncodeHeaders(map[string]string{"traceparent": "00-1", "a": strings.Repeat("v", 300)})
	for _, size := range []int{0, 1, 200, 255, 256, 65_500, 65_535, 65_536, 1 << 20} {
		for _, h := range []Headers{nil, headers} {
			name := []byte(strings.Repeat("ä", size%140+1))
			payload := make([]byte, size)
			broadcast := Broadcast{ID: uint64(size) << 20, Cluster: name, Headers: h, Payload: payload}
			survives(t, broadcast, broadcast.Size(), AppendBroadcast, ParseBroadcast)
			publish := Publish{ID: uint64(size), Topic: name, Headers: h, Payload: payload}
			survives(t, publish, publish.Size(), AppendPublish, ParsePublish)
			event := Event{Topic: name, Headers: h, Payload: payload}
			survives(t, event, event.Size(), AppendEvent, ParseEvent)
			fields := decoded(t, AppendEvent(nil, event))
			require.Len(t, fields, 4)
			require.Equal(t, string(name), fields[1])
			require.Len(t, fields[2], h.Len())
			require.Equal(t, payload, fields[3])
		}
	}
}

// survives tells that a frame has the size that was told, and parses as want.
func survives[X any](t *testing.T, want X, size int, appendX func([]byte, X) []byte, parse func([]byte) (X, error)) {
	t.Helper()
	frame := appendX([]byte("before"), want)[len("before"):]
	require.Len(t, frame, size)
	got, err := parse(content(t, frame))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestTopicsAndOutcomesSurvive(t *testing.T) {
	for _, id := range edges {
		for _, topic := range []string{"", "t", strings.Repeat("t", 31), strings.Repeat("t", 32), strings.Repeat("t", 255)} {
			gotID, got, err := ParseSubscribe(content(t, AppendSubscribe(nil, id, []byte(topic))))
			require.NoError(t, err)
			require.Equal(t, id, gotID)
			require.Equal(t, topic, string(got))
			gotID, got, err = ParseUnsubscribe(content(t, AppendUnsubscribe(nil, id, []byte(topic))))
			require.NoError(t, err)
			require.Equal(t, id, gotID)
			require.Equal(t, topic, string(got))
		}
		gotID, code, text, err := ParseDone(content(t, AppendDone(nil, id, CodeInvalid, "a\xffb")))
		require.NoError(t, err)
		require.Equal(t, id, gotID)
		require.Equal(t, CodeInvalid, code)
		require.Equal(t, "a?b", text, "a text is mended")
	}
	long := strings.Repeat("x", MaxText+1)
	_, _, text, err := ParseAbort(content(t, AppendAbort(nil, math.MaxUint64, CodeFailed, long)))
	require.NoError(t, err)
	require.Equal(t, long[:MaxText], text)
}

func TestAMessageBeyondALimitSaysWhich(t *testing.T) {
	l := Limits{Frame: 100_000, Payload: 10, Headers: 20, Name: 4}
	name, longName := []byte("name"), []byte("names")
	headers := EncodeHeaders(map[string]string{"a": strings.Repeat("b", 20)})
	require.NoError(t, l.CheckBroadcast(Broadcast{Cluster: name, Payload: make([]byte, 10)}))
	require.NoError(t, l.CheckPublish(Publish{Topic: name, Payload: make([]byte, 10)}))
	for says, err := range map[string]error{
		"the payload exceeds the limit of 10 bytes":     l.CheckBroadcast(Broadcast{Cluster: name, Payload: make([]byte, 11)}),
		"the headers exceed the limit of 20 bytes":      l.CheckBroadcast(Broadcast{Cluster: name, Headers: headers}),
		"the cluster name exceeds the limit of 4 bytes": l.CheckBroadcast(Broadcast{Cluster: longName}),
		"the cluster name is empty":                     l.CheckBroadcast(Broadcast{}),
		"the payload exceeds the limit of 10 bytes (":   l.CheckPublish(Publish{Topic: name, Payload: make([]byte, 11)}),
		"the headers exceed the limit of 20 bytes (":    l.CheckPublish(Publish{Topic: name, Headers: headers}),
		"the topic exceeds the limit of 4 bytes":        l.CheckPublish(Publish{Topic: longName}),
		"the topic is empty (relay.md 9.1)":             l.CheckTopic(nil),
		"the topic is not UTF-8":                        l.CheckTopic([]byte("\xff")),
	} {
		var broken *Error
		require.ErrorAs(t, err, &broken, says)
		require.Equal(t, CodeInvalid, broken.Code)
		require.ErrorContains(t, err, says)
	}
}

func TestSubscriptionsAndTunnelsAreBounded(t *testing.T) {
	l := DefaultLimits()
	require.NoError(t, l.CheckSubscriptions(65_535))
	require.NoError(t, l.CheckTunnels(16_383))
	for _, err := range []error{l.CheckSubscriptions(65_536), l.CheckTunnels(16_384)} {
		var broken *Error
		require.ErrorAs(t, err, &broken)
		require.Equal(t, CodeOverloaded, broken.Code)
	}
}

// What is appended is what is parsed, here and by a foreign decoder.
func FuzzMessages(f *testing.F) {
	f.Add(uint64(2), "upper", "a", "1", []byte("p"))
	f.Add(uint64(1)<<63, strings.Repeat("ä", 200), "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, id uint64, name, key, value string, payload []byte) {
		if !utf8.ValidString(name) || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return
		}
		headers := map[string]string{key: value}
		frame := AppendBroadcast(nil, Broadcast{id, []byte(name), EncodeHeaders(headers), payload})
		broadcast, err := ParseBroadcast(content(t, frame))
		require.NoError(t, err)
		require.Equal(t, id, broadcast.ID)
		require.Equal(t, headers, maps.Collect(broadcast.Headers.All()))
		fields := decoded(t, frame)
		require.Equal(t, id, toUint(t, fields[1]))
		require.Equal(t, name, fields[2])
		require.Equal(t, map[string]any{key: value}, fields[3])
		require.True(t, bytes.Equal(payload, fields[4].([]byte)))

		foreign := content(t, encoded(t, uint8(OpPublish), id, name, headers, append([]byte{}, payload...)))
		publish, err := ParsePublish(foreign)
		require.NoError(t, err)
		require.Equal(t, id, publish.ID)
		require.Equal(t, name, string(publish.Topic))
		require.True(t, bytes.Equal(payload, publish.Payload))
		event, err := ParseEvent(content(t, encoded(t, uint8(OpEvent), name, headers, append([]byte{}, payload...))))
		require.NoError(t, err)
		require.Equal(t, Event{publish.Topic, publish.Headers, publish.Payload}, event)
	})
}
