package wire

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARequestBeyondALimitSaysWhich(t *testing.T) {
	l := Limits{Frame: 100_000, Payload: 10, Headers: 20, Name: 4, Requests: 2}
	good := Request{Cluster: []byte("name"), Headers: EncodeHeaders(map[string]string{"a": "b"}), Payload: make([]byte, 10)}
	require.NoError(t, l.CheckRequest(good))

	for name, spoil := range map[string]func(r *Request){
		"payload":   func(r *Request) { r.Payload = make([]byte, 11) },
		"headers":   func(r *Request) { r.Headers = EncodeHeaders(map[string]string{"a": strings.Repeat("b", 20)}) },
		"name":      func(r *Request) { r.Cluster = []byte("names") },
		"empty":     func(r *Request) { r.Cluster = nil },
		"not UTF-8": func(r *Request) { r.Cluster = []byte("\xff") },
	} {
		r := good
		spoil(&r)
		var broken *Error
		require.ErrorAs(t, l.CheckRequest(r), &broken)
		require.Equal(t, CodeInvalid, broken.Code)
		require.Contains(t, broken.Text, name)
	}
}

func TestTooManyHeadersAreNotSent(t *testing.T) {
	m := make(map[string]string)
	for i := range MaxHeaders {
		m[strconv.Itoa(i)] = ""
	}
	r := Request{Cluster: []byte("c"), Headers: EncodeHeaders(m)}
	require.NoError(t, DefaultLimits().CheckRequest(r))
	_, err := ParseRequest(content(t, AppendRequest(nil, r)))
	require.NoError(t, err)

	m["one more"] = ""
	r.Headers = EncodeHeaders(m)
	require.ErrorContains(t, DefaultLimits().CheckRequest(r), "5.3")
	_, err = ParseRequest(content(t, AppendRequest(nil, r)))
	require.ErrorContains(t, err, "5.3")
}

func TestAReplyBeyondALimitSaysWhich(t *testing.T) {
	l := DefaultLimits()
	require.NoError(t, l.CheckReply(Reply{Text: make([]byte, MaxText), Payload: make([]byte, l.Payload)}))
	require.ErrorContains(t, l.CheckReply(Reply{Text: make([]byte, MaxText+1)}), "text")
	require.ErrorContains(t, l.CheckReply(Reply{Payload: make([]byte, l.Payload+1)}), "payload")
}

func TestUnansweredRequestsAreBounded(t *testing.T) {
	l := DefaultLimits()
	require.NoError(t, l.CheckUnanswered(4095))
	var broken *Error
	require.ErrorAs(t, l.CheckUnanswered(4096), &broken)
	require.Equal(t, CodeOverloaded, broken.Code)
}

func TestLimitsThatContradictEachOtherAreRefused(t *testing.T) {
	l := DefaultLimits()
	require.NoError(t, l.Validate())
	l.Payload = l.Frame
	require.ErrorContains(t, l.Validate(), "frame must be at least")
	l.Payload = math.MaxUint64
	require.Error(t, l.Validate())
	l = DefaultLimits()
	l.Name = 0
	require.Error(t, l.Validate())
	for _, limit := range []func(l *Limits) *uint64{
		func(l *Limits) *uint64 { return &l.Topics }, func(l *Limits) *uint64 { return &l.Tunnels }, func(l *Limits) *uint64 { return &l.Chunk },
	} {
		l = DefaultLimits()
		*limit(&l) = 0
		require.ErrorContains(t, l.Validate(), "at least 1")
	}
	l = DefaultLimits()
	l.Chunk = l.Frame - overhead
	require.NoError(t, l.Validate())
	l.Chunk++
	require.ErrorContains(t, l.Validate(), "frame must be at least")
}

func TestTheGreatestMessagesFitAFrame(t *testing.T) {
	l := DefaultLimits()
	headers := EncodeHeaders(map[string]string{"a": strings.Repeat("b", 16_378)})
	require.LessOrEqual(t, uint64(len(headers)), l.Headers)
	r := Reply{ID: math.MaxUint64, Code: 255, Text: make([]byte, MaxText), Headers: headers, Payload: make([]byte, l.Payload)}
	require.NoError(t, l.CheckReply(r))
	require.LessOrEqual(t, uint64(r.contentSize()), l.Frame)
}

func TestCreditNeverOverflows(t *testing.T) {
	sum, err := AddCredit(MaxCredit-1, 1)
	require.NoError(t, err)
	require.EqualValues(t, MaxCredit, sum)
	for _, n := range []uint32{1, math.MaxUint32} {
		kept, err := AddCredit(sum, n)
		var broken *Error
		require.ErrorAs(t, err, &broken)
		require.Equal(t, CodeUnexpected, broken.Code)
		require.Equal(t, sum, kept)
	}
}

func TestNamesOfTheNodeAreReserved(t *testing.T) {
	require.True(t, Reserved([]byte("$node")))
	require.False(t, Reserved([]byte("node$")))
	require.False(t, Reserved(nil))
}

func TestUnlistedReasonsAreTreatedLikeListedOnes(t *testing.T) {
	for code, want := range map[Code]Code{16: CodeVersion, 20: CodeNotReady, 21: CodeNotReady, 31: CodeNotReady, 34: CodeUnexpected, 37: CodeMalformed, 255: CodeMalformed, 9: CodeMalformed} {
		require.Equal(t, want, code.AsReason(), code)
	}
}
