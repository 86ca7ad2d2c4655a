package link

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// feed puts b through a splitter in chunks of at most step bytes.
func feed(s *splitter, b []byte, step int) (messages [][]byte, err error) {
	for {
		for {
			msg, err := s.next()
			if err != nil {
				return messages, err
			}
			if msg == nil {
				break
			}
			messages = append(messages, bytes.Clone(msg))
		}
		if len(b) == 0 {
			return messages, nil
		}
		n := copy(s.room(), b[:min(step, len(b))])
		s.filled(n)
		b = b[n:]
	}
}

func TestFrameGoldenBytes(t *testing.T) {
	require.Equal(t, "0000000568656c6c6f", hex.EncodeToString(appendFrame(nil, []byte("he"), []byte("llo"))))
	require.Equal(t, "00000000", hex.EncodeToString(appendFrame(nil, nil, nil)))
}

func TestSplitterCutsWhateverTheChunks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var want [][]byte
	var wire []byte
	for i := range 300 {
		msg := make([]byte, rnd.IntN(200))
		if i%50 == 0 {
			msg = make([]byte, 100_000)
		}
		for j := range msg {
			msg[j] = byte(rnd.Uint32())
		}
		want = append(want, msg)
		wire = appendFrame(wire, msg, nil)
	}
	for _, step := range []int{1, 3, 100, 5000, readBufferBytes, len(wire)} {
		got, err := feed(&splitter{max: 100_000}, wire, step)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.True(t, bytes.Equal(want[i], got[i]), "message %d in steps of %d", i, step)
		}
	}
}

func TestSplitterGrowsOnlyWithTheBytes(t *testing.T) {
	s := &splitter{max: 1 << 20}
	_, err := feed(s, []byte{0, 0x10, 0, 0, 'x'}, 100)
	require.NoError(t, err)
	require.Len(t, s.buf, readBufferBytes)
	_, err = feed(s, make([]byte, 100_000), 1000)
	require.NoError(t, err)
	require.LessOrEqual(t, len(s.buf), 4*100_000)
	got, err := feed(s, make([]byte, 1<<20-100_001), 100_000)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, 1<<20+headerBytes, len(s.buf), "never more than one message needs")
}

func TestSplitterShrinksAfterALargeMessage(t *testing.T) {
	s := &splitter{max: 1 << 20}
	_, err := feed(s, appendFrame(nil, make([]byte, 1<<20), nil), 50_000)
	require.NoError(t, err)
	for range shrinkAfter + 1 {
		_, err = feed(s, appendFrame(nil, []byte("small"), nil), 100)
		require.NoError(t, err)
	}
	require.Len(t, s.buf, readBufferBytes)
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0, 0, 0}, uint16(1))
	f.Add([]byte{255, 255, 255, 255, 0}, uint16(3))
	f.Add([]byte{0x80, 0, 0, 0}, uint16(9))
	f.Add([]byte{0, 0, 4, 1}, uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, step uint16) {
		s := &splitter{max: 1024}
		messages, err := feed(s, b, int(step)+1)
		require.LessOrEqual(t, len(s.buf), readBufferBytes)
		var again []byte
		for _, m := range messages {
			require.LessOrEqual(t, len(m), 1024)
			again = appendFrame(again, m, nil)
		}
		require.True(t, bytes.HasPrefix(b, again))
		if err == nil {
			require.Less(t, len(b)-len(again), headerBytes+1024)
		}
	})
}

func TestHelloGoldenBytes(t *testing.T) {
	h := hello{version: 1, maxMessage: 1280 << 10}
	require.Equal(t, "000100140000", hex.EncodeToString(h.append(nil)))
	got, err := parseHello(append(h.append(nil), "for versions to come"...))
	require.NoError(t, err)
	require.Equal(t, h, got)
}

func FuzzHello(f *testing.F) {
	f.Add(hello{1, 1 << 20}.append(nil))
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255})
	f.Add([]byte{0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		require.Equal(t, b[:helloBytes], h.append(nil))
		if h.version == version {
			require.GreaterOrEqual(t, h.maxMessage, uint32(minMessageLimit))
		}
	})
}

func BenchmarkSplitter64B(b *testing.B) {
	var chunk []byte
	for range 200 {
		chunk = appendFrame(chunk, make([]byte, 64), nil)
	}
	s := &splitter{max: 1 << 20}
	b.ReportAllocs()
	for b.Loop() {
		s.filled(copy(s.room(), chunk))
		for msg, _ := s.next(); msg != nil; msg, _ = s.next() {
			runtime.KeepAlive(msg)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200, "ns/msg")
}
