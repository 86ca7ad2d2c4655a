package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// decoded is what a foreign MessagePack library makes of one frame of ours.
func decoded(t testing.TB, frame []byte) []any {
	t.Helper()
	d := msgpack.NewDecoder(bytes.NewReader(frame))
	content, err := d.DecodeBytes()
	require.NoError(t, err)
	_, err = d.PeekCode()
	require.Error(t, err, "bytes follow the frame")
	d = msgpack.NewDecoder(bytes.NewReader(content))
	fields, err := d.DecodeSlice()
	require.NoError(t, err)
	return fields
}

// encoded is a frame made by a foreign MessagePack library.
func encoded(t testing.TB, fields ...any) []byte {
	t.Helper()
	var content bytes.Buffer
	e := msgpack.NewEncoder(&content)
	e.SetSortMapKeys(true)
	require.NoError(t, e.Encode(fields))
	frame, err := msgpack.Marshal(content.Bytes())
	require.NoError(t, err)
	return frame
}

// content cuts the head off a frame.
func content(t testing.TB, frame []byte) []byte {
	t.Helper()
	head, size, err := parseFrameHead(frame)
	require.NoError(t, err)
	require.Equal(t, len(frame), head+int(size))
	return frame[head:]
}
