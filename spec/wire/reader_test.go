package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// stream is frames of the given payload sizes, one behind the other.
func stream(sizes ...int) []byte {
	var b []byte
	for i, n := range sizes {
		b = AppendRequest(b, Request{ID: uint64(i), Cluster: []byte("c"), Payload: bytes.Repeat([]byte{byte(i)}, n)})
	}
	return b
}

// requireFrames reads what stream made.
func requireFrames(t *testing.T, r *Reader, sizes ...int) {
	t.Helper()
	for i, n := range sizes {
		content, err := r.Next()
		require.NoError(t, err)
		got, err := ParseRequest(content)
		require.NoError(t, err)
		require.EqualValues(t, i, got.ID)
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, n), got.Payload)
	}
}

func TestFramesComeOutHoweverTheyArrive(t *testing.T) {
	sizes := []int{0, 1, 5000, 64, 70_000, 3, 300_000, 1, 4096, 4080}
	for name, chop := range map[string]func(io.Reader) io.Reader{
		"at once":       func(r io.Reader) io.Reader { return r },
		"by bytes":      iotest.OneByteReader,
		"by halves":     iotest.HalfReader,
		"end with data": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(chop(bytes.NewReader(stream(sizes...))), DefaultLimits().Frame)
			requireFrames(t, r, sizes...)
			for range 2 {
				_, err := r.Next()
				require.Equal(t, io.EOF, err)
			}
		})
	}
}

func TestManyFramesTakeOneRead(t *testing.T) {
	src := &counted{src: bytes.NewReader(stream(make([]int, 100)...))}
	r := NewReader(src, 1000)
	require.False(t, r.Buffered())
	for i := range 100 {
		_, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, i < 99, r.Buffered())
	}
	require.Equal(t, 1, src.reads)
}

// counted counts the reads of a stream.
type counted struct {
	src   io.Reader
	reads int
}

func (c *counted) Read(b []byte) (int, error) {
	c.reads++
	return c.src.Read(b)
}

func TestAnEndWithinAFrameIsUnexpected(t *testing.T) {
	whole := stream(10)
	for n := 1; n < len(whole); n++ {
		r := NewReader(bytes.NewReader(whole[:n]), 1000)
		for range 2 {
			_, err := r.Next()
			require.Equal(t, io.ErrUnexpectedEOF, err)
		}
	}
}

func TestAPassedDeadlineLosesNothing(t *testing.T) {
	whole := stream(10, 20)
	r := NewReader(io.MultiReader(bytes.NewReader(whole[:5]), iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(whole[5:])))), 1000)
	_, err := r.Next()
	require.Equal(t, iotest.ErrTimeout, err)
	requireFrames(t, r, 10, 20)
}

func TestAStreamThatYieldsNothingIsGivenUp(t *testing.T) {
	r := NewReader(iotest.ErrReader(nil), 1000)
	_, err := r.Next()
	require.Equal(t, io.ErrNoProgress, err)
}

func TestLengthsAreCheckedBeforeAnythingIsAllocated(t *testing.T) {
	for bomb, want := range map[string]Code{
		"c6 ff ff ff ff":       CodeTooLarge,
		"c6 80 00 00 00":       CodeTooLarge,
		"c5 ff ff":             CodeTooLarge,
		"dd ff ff ff ff":       CodeMalformed,
		"df ff ff ff ff":       CodeMalformed,
		"db ff ff ff ff":       CodeMalformed,
		"c9 ff ff ff ff":       CodeMalformed,
		"00":                   CodeMalformed,
		"16 03 01 02 00 01":    CodeMalformed, // TLS
		"47 45 54 20 2f 20 48": CodeMalformed, // HTTP
	} {
		r := NewReader(bytes.NewReader(unhex(t, bomb)), 1000)
		for range 2 {
			_, err := r.Next()
			var broken *Error
			require.ErrorAs(t, err, &broken, bomb)
			require.Equal(t, want, broken.Code, bomb)
			require.True(t, r.Buffered())
		}
		require.Len(t, r.buf, smallRead)
	}
}

func TestTheLimitIsTheLastSizeThatPasses(t *testing.T) {
	size := uint64(len(stream(100)) - 2)
	r := NewReader(bytes.NewReader(stream(100, 100)), size)
	_, err := r.Next()
	require.NoError(t, err)
	r.SetLimit(size - 1)
	_, err = r.Next()
	require.ErrorContains(t, err, "4.2")
}

// A peer must send bytes to make a Reader hold memory.
func TestADeclaredLengthAloneTakesNoMemory(t *testing.T) {
	head := appendBinLen(nil, 1<<20)
	for sent := 1; sent < 1<<20; sent *= 3 {
		src := io.MultiReader(bytes.NewReader(head), bytes.NewReader(make([]byte, sent)), iotest.ErrReader(iotest.ErrTimeout))
		r := NewReader(src, 1<<20)
		_, err := r.Next()
		require.Equal(t, iotest.ErrTimeout, err)
		require.LessOrEqual(t, len(r.buf), max(smallRead, 4*(sent+len(head))))
	}
}

func TestALargeBufferIsGivenBackWhenItIsDrained(t *testing.T) {
	r := NewReader(bytes.NewReader(stream(1_000_000, 60_000, 1, 1)), 1<<20)
	buffers := []int{}
	for range 4 {
		_, err := r.Next()
		require.NoError(t, err)
		buffers = append(buffers, len(r.buf))
	}
	_, err := r.Next()
	require.Equal(t, io.EOF, err)
	require.GreaterOrEqual(t, buffers[0], 1_000_000)
	require.Equal(t, smallRead, len(r.buf))

	// Frames that take it whole keep a moderate one.
	both := stream(60_000, 60_000)
	r = NewReader(io.MultiReader(bytes.NewReader(both[:len(both)/2]), bytes.NewReader(both[len(both)/2:]), strings.NewReader("\xc4")), 1<<20)
	requireFrames(t, r, 60_000, 60_000)
	require.Equal(t, 64<<10, len(r.buf))
	_, err = r.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestABusyStreamGetsALargerBufferAndAQuietOneLosesIt(t *testing.T) {
	busy := bytes.Repeat(AppendDrain(nil), 100_000)
	src, feed := io.Pipe()
	r := NewReader(src, 1000)
	done := make(chan error, 1)
	go func() {
		_, err := feed.Write(busy)
		for range 2 { // one to find the buffer too large, one that is read into the small one
			_, e := feed.Write(AppendDrain(nil))
			err = errors.Join(err, e)
		}
		done <- errors.Join(err, feed.Close())
	}()
	largest := 0
	for range 100_002 {
		_, err := r.Next()
		require.NoError(t, err)
		largest = max(largest, len(r.buf))
	}
	require.NoError(t, <-done)
	require.Equal(t, largeRead, largest)
	require.Equal(t, smallRead, len(r.buf))
}
