package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestOpeningATunnelSurvives(t *testing.T) {
	headers := EncodeHeaders(map[string]string{"a": strings.Repeat("v", 300)})
	for _, id := range edges {
		for _, h := range []Headers{nil, headers} {
			o := Open{ID: id, Cluster: []byte("upper"), Budget: uint32(id), Window: uint32(id >> 1), Headers: h}
			survives(t, o, o.Size(), AppendOpen, ParseOpen)
			fields := decoded(t, AppendOpen(nil, o))
			require.Len(t, fields, 6)
			require.Equal(t, id, toUint(t, fields[1]))
			require.EqualValues(t, o.Budget, toUint(t, fields[3]))
			require.EqualValues(t, o.Window, toUint(t, fields[4]))
			require.Len(t, fields[5], h.Len())
			opened := Opened{ID: id, Window: uint32(id), Headers: h}
			survives(t, opened, opened.Size(), AppendOpened, ParseOpened)
		}
	}
}

func TestChunksOfEverySizeSurvive(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 65_535, 65_536} {
		for _, last := range []bool{false, true} {
			d := Data{ID: NodeTunnel + uint64(size), Last: last, Payload: make([]byte, size)}
			survives(t, d, d.Size(), AppendData, ParseData)
			require.Equal(t, size+64, d.Cost())
			fields := decoded(t, AppendData(nil, d))
			require.Equal(t, last, toUint(t, fields[2]) == 1)
			require.Equal(t, d.Payload, fields[3])
		}
	}
}

func TestTheRestOfATunnelSurvives(t *testing.T) {
	for _, id := range edges {
		gotID, n, err := ParseAllow(content(t, AppendAllow(nil, id, uint32(id))))
		require.NoError(t, err)
		require.Equal(t, id, gotID)
		require.Equal(t, uint32(id), n)
		gotID, err = ParseFinish(content(t, AppendFinish(nil, id)))
		require.NoError(t, err)
		require.Equal(t, id, gotID)
		gotID, code, text, err := ParseAbort(content(t, AppendAbort(nil, id, Code(id), "why")))
		require.NoError(t, err)
		require.Equal(t, id, gotID)
		require.Equal(t, Code(id), code)
		require.Equal(t, "why", text)
	}
}

func TestATunnelThatMayNotBeOpenedSaysWhy(t *testing.T) {
	l := DefaultLimits()
	good := Open{ID: NodeTunnel - 1, Cluster: []byte("c"), Window: MaxCredit}
	require.NoError(t, l.CheckOpen(good))
	for says, row := range map[string]struct {
		code  Code
		spoil func(o *Open)
	}{
		"highest bit":    {CodeUnexpected, func(o *Open) { o.ID = NodeTunnel }},
		"allowance":      {CodeUnexpected, func(o *Open) { o.Window = MaxCredit + 1 }},
		"cluster name":   {CodeInvalid, func(o *Open) { o.Cluster = nil }},
		"headers exceed": {CodeInvalid, func(o *Open) { o.Headers = EncodeHeaders(map[string]string{"a": strings.Repeat("b", 16_384)}) }},
	} {
		o := good
		row.spoil(&o)
		var broken *Error
		require.ErrorAs(t, l.CheckOpen(o), &broken)
		require.Equal(t, row.code, broken.Code)
		require.Contains(t, broken.Text, says)
	}
	require.NoError(t, l.CheckOpened(Opened{Window: MaxCredit}))
	require.Error(t, l.CheckOpened(Opened{Window: MaxCredit + 1}))
	require.Error(t, l.CheckOpened(Opened{Headers: make([]byte, 16_385)}))
}

func TestAChunkBeyondTheLimitIsOfItsTunnelAlone(t *testing.T) {
	l := DefaultLimits()
	require.NoError(t, l.CheckChunk(Data{Payload: make([]byte, 65_536)}))
	var broken *Error
	require.ErrorAs(t, l.CheckChunk(Data{Payload: make([]byte, 65_537)}), &broken)
	require.Equal(t, CodeInvalid, broken.Code)
}

func TestAllowancesNeverOverflow(t *testing.T) {
	sum, err := AddAllowance(MaxCredit-1, 1)
	require.NoError(t, err)
	require.EqualValues(t, MaxCredit, sum)
	kept, err := AddAllowance(sum, math.MaxUint32)
	require.ErrorContains(t, err, "10.5")
	require.Equal(t, sum, kept)
}

// What a tunnel's encoders make a foreign decoder reads, and the other way round.
func FuzzTunnels(f *testing.F) {
	f.Add(uint64(6), true, uint32(1000), "upper", []byte("p"))
	f.Add(uint64(NodeTunnel), false, uint32(NoDeadline), "", []byte(nil))
	f.Fuzz(func(t *testing.T, id uint64, last bool, n uint32, text string, payload []byte) {
		d := Data{id, last, payload}
		frame := AppendData(nil, d)
		require.Len(t, frame, d.Size())
		got, err := ParseData(content(t, frame))
		require.NoError(t, err)
		require.Equal(t, id, got.ID)
		require.Equal(t, last, got.Last)
		require.True(t, bytes.Equal(payload, got.Payload))
		require.True(t, bytes.Equal(payload, decoded(t, frame)[3].([]byte)))

		allowID, m, err := ParseAllow(content(t, encoded(t, uint8(OpAllow), id, n)))
		require.NoError(t, err)
		require.Equal(t, []any{id, n}, []any{allowID, m})
		fields := decoded(t, AppendAbort(nil, id, Code(n), text))
		require.Equal(t, id, toUint(t, fields[1]))
		require.EqualValues(t, Code(n), toUint(t, fields[2]))
		require.True(t, utf8.ValidString(fields[3].(string)))
		if !utf8.ValidString(text) {
			return
		}
		o, err := ParseOpen(content(t, encoded(t, uint8(OpOpen), id, text, n, n/2, map[string]string{})))
		require.NoError(t, err)
		require.Equal(t, Open{id, o.Cluster, n, n / 2, nil}, o)
		require.Equal(t, text, string(o.Cluster))
	})
}
