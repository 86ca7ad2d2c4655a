package link_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
)

// TestSystemThinsOutProbesAndNothingElse sends probes with a word at offset 2 and without it.
func TestSystemThinsOutProbesAndNothingElse(t *testing.T) {
	const offset, word, batch = 2, 0x4142, 16
	withWord, withoutWord := []byte("\x07.AB...."), []byte("\x07.BA....")
	arrived := make(chan struct{}, 1)
	a := start(t, "127.0.31.6", nil)
	b := start(t, "127.0.31.7", func(*link.Turn, *link.Conn, []byte) { arrived <- struct{}{} })
	c := connect(t, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	buf := make([]byte, 100)
	require.NoError(t, b.WriteProbe([]byte("\x07"), a.Addr())) // from now on probes are kept for a reader

	// kept is how many of batches of probe come through; last comes through always.
	kept := func(batches int, probe, last []byte) (n int) {
		var turn link.Turn
		for range batches {
			for range batch {
				require.NoError(t, a.WriteProbe(probe, b.Addr()))
			}
			require.NoError(t, c.Send(&turn, 0, nil, []byte("links go on")))
			turn.End()
			require.NoError(t, a.WriteProbe(last, b.Addr()))
			for got := ""; got != string(last); n++ {
				read, _, err := b.ReadProbe(ctx, buf)
				require.NoError(t, err)
				got = string(buf[:read])
			}
			n-- // last itself
			select {
			case <-arrived:
			case <-ctx.Done():
				require.NoError(t, ctx.Err(), "a message was lost")
			}
		}
		return n
	}
	const batches, few, many = 200, 200 * batch / 32, 200 * batch / 8
	end1, end2 := append([]byte(nil), withWord...), append([]byte(nil), withoutWord...)
	end1[7], end2[7] = 'e', 'e'

	require.Equal(t, 10*batch, kept(10, withoutWord, end1))
	require.NoError(t, b.ThinProbes(offset, word, 1, 16))
	n := kept(batches, withoutWord, end1)
	require.True(t, few < n && n < many, "%d of %d without the word", n, batches*batch)
	require.Equal(t, 10*batch, kept(10, withWord, end1))

	require.NoError(t, b.ThinProbes(offset, word, 16, 1))
	n = kept(batches, withWord, end2)
	require.True(t, few < n && n < many, "%d of %d with the word", n, batches*batch)
	require.Equal(t, 10*batch, kept(10, withoutWord, end2))

	for range 2 { // taking off what is not there is no error
		require.NoError(t, b.ThinProbes(offset, word, 1, 1))
		require.Equal(t, 10*batch, kept(10, withWord, end2))
		require.Equal(t, 10*batch, kept(10, withoutWord, end1))
	}
}
