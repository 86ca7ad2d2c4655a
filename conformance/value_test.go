package conformance

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/vectors"
)

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	return b
}

func TestValuesAreReadFromEveryForm(t *testing.T) {
	for digits, want := range map[string]any{
		"00": uint64(0), "7f": uint64(127), "cc 05": uint64(5), "cd 01 00": uint64(256), "ce 00 00 00 05": uint64(5), "cf ff ff ff ff ff ff ff ff": uint64(1<<64 - 1),
		"c0": nil, "c2": false, "c3": true,
		"a0": "", "a2 c3 a4": "ä", "d9 01 61": "a", "da 00 01 61": "a", "db 00 00 00 01 61": "a",
		"c4 00": []byte{}, "c4 01 61": []byte("a"), "c5 00 01 61": []byte("a"), "c6 00 00 00 01 61": []byte("a"),
		"90": []any{}, "92 01 a1 61": []any{uint64(1), "a"}, "dc 00 01 c0": []any{nil}, "dd 00 00 00 01 90": []any{[]any{}},
		"80": map[string]any{}, "81 a1 61 01": map[string]any{"a": uint64(1)}, "de 00 01 a0 c3": map[string]any{"": true}, "df 00 00 00 01 a0 80": map[string]any{"": map[string]any{}},
		"82 a1 61 01 a1 61 02": map[string]any{"a": uint64(2)},
	} {
		got, rest, err := parseValue(append(unhex(t, digits), 0xaa), 16)
		require.NoError(t, err, digits)
		require.Equal(t, want, got, digits)
		require.Equal(t, []byte{0xaa}, rest, digits)
	}
}

func TestValuesThatAreNoneAreErrors(t *testing.T) {
	for _, digits := range []string{
		"", "c1", "ca 00 00 00 00", "cb 00 00 00 00 00 00 00 00", "d0 05", "ff", "d4 01 00", "c7 01 01 00",
		"cc", "cd 00", "ce 00 00 00", "cf 00", "a1", "d9", "d9 02 61", "da 00", "db ff ff ff ff", "c4 01", "c5 00", "c6 ff ff ff ff 00",
		"91", "dc 00", "dc ff ff 00", "dd ff ff ff ff 00", "81 a0", "81 01 01", "81 c0 c0", "de 00 01", "df ff ff ff ff 00", strings.Repeat("91", 16) + "00",
	} {
		_, _, err := parseValue(unhex(t, digits), 16)
		require.ErrorIs(t, err, errValue, digits)
	}
}

func TestValuesAreWrittenInTheShortestForm(t *testing.T) {
	for want, v := range map[string]any{
		"05": 5, "7f": uint64(127), "cc 80": uint64(128), "cc ff": uint64(255), "cd 01 00": uint64(256), "cd ff ff": uint64(65_535),
		"ce 00 01 00 00": uint64(65_536), "ce ff ff ff ff": noDeadline, "cf 00 00 00 01 00 00 00 00": uint64(1 << 32),
		"a0": "", "a1 61": "a", "c4 00": []byte{}, "c4 01 61": []byte("a"), "80": map[string]any{}, "81 a1 61 a1 62": map[string]any{"a": "b"}, "92 01 a0": []any{1, ""},
	} {
		require.Equal(t, unhex(t, want), appendValue(nil, v), "%v", v)
	}
	for size, head := range map[int]string{31: "bf", 32: "d9 20", 255: "d9 ff", 256: "da 01 00", 65_535: "da ff ff", 65_536: "db 00 01 00 00"} {
		require.Equal(t, unhex(t, head), appendValue(nil, strings.Repeat("a", size))[:len(unhex(t, head))], size)
	}
	for size, head := range map[int]string{255: "c4 ff", 256: "c5 01 00", 65_535: "c5 ff ff", 65_536: "c6 00 01 00 00"} {
		require.Equal(t, unhex(t, head), appendValue(nil, make([]byte, size))[:len(unhex(t, head))], size)
	}
	require.Panics(t, func() { appendValue(nil, 1.5) })
}

func TestFramesAreWrittenAsTheVectorsSay(t *testing.T) {
	written := map[string][]byte{
		"ping":      appendFrame(nil, opNumber("ping"), 7),
		"request":   appendFrame(nil, opNumber("request"), 1, "upper", 1000, map[string]any{}, []byte("hello")),
		"broadcast": appendFrame(nil, opNumber("broadcast"), 2, "upper", map[string]any{}, []byte("hello")),
		"publish":   appendFrame(nil, opNumber("publish"), 3, "news", map[string]any{}, []byte("hi")),
		"subscribe": appendFrame(nil, opNumber("subscribe"), 4, "news"),
		"open":      appendFrame(nil, opNumber("open"), 6, "upper", 1000, 65_536, map[string]any{}),
		"opened":    appendFrame(nil, opNumber("opened"), 6, 65_536, map[string]any{}),
		"allow":     appendFrame(nil, opNumber("allow"), 6, 69),
		"finish":    appendFrame(nil, opNumber("finish"), 6),
		"abort":     appendFrame(nil, opNumber("abort"), 6, 0, ""),
	}
	for _, v := range vectors.Frames() {
		if frame := written[v.Name]; frame != nil {
			require.Equal(t, fmt.Sprintf("% x", []byte(v.Hex)), fmt.Sprintf("% x", frame), v.Name)
			delete(written, v.Name)
		}
	}
	require.Empty(t, written)
}

func TestContentsThatAreNoMessageAreErrors(t *testing.T) {
	o, fields, err := parseContent(unhex(t, "92 03 07"))
	require.NoError(t, err)
	require.Equal(t, "ping", o.name)
	require.Equal(t, []any{uint64(7)}, fields)
	for _, digits := range []string{"", "90", "c0", "03", "91 a0", "91 cd 01 00", "91 03 00"} {
		_, _, err := parseContent(unhex(t, digits))
		require.ErrorIs(t, err, errValue, digits)
	}
}

// Whatever bytes come, the reader returns: a value within its input, or an error.
func FuzzValue(f *testing.F) {
	for _, digits := range []string{"dd ff ff ff ff", "df ff ff ff ff", "c6 ff ff ff ff", "db ff ff ff ff", strings.Repeat("91", 100), "82 a1 61 01 a1 61 02", "cf ff ff ff ff ff ff ff ff"} {
		f.Add(unhex(f, digits))
	}
	for _, v := range vectors.Frames() {
		f.Add([]byte(v.Hex))
		f.Add([]byte(v.Hex[2:]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := parseValue(b, 16)
		if err != nil {
			require.ErrorIs(t, err, errValue)
			return
		}
		require.Less(t, len(rest), len(b))
		require.Equal(t, b[len(b)-len(rest):], rest)
		switch v.(type) {
		case uint64, string, []byte: // what the suite writes too
			again, none, err := parseValue(appendValue(nil, v), 16)
			require.NoError(t, err)
			require.Empty(t, none)
			require.Equal(t, v, again)
		}
	})
}
