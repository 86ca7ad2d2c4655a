package link_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// latency is one way between any two nodes of the tests.
const latency = time.Millisecond

// A pair is two running nodes, linked by newPair, and what happened on each.
type pair struct {
	*linktest.Network
	rec [2]*linktest.Recorder
}

// runPair runs two nodes without a link.
func runPair(t *testing.T, o linktest.Options) *pair {
	t.Helper()
	if o.Latency == 0 {
		o.Latency = latency
	}
	p := &pair{Network: linktest.New(t, 2, o)}
	for i := range p.rec {
		p.rec[i] = new(linktest.Recorder)
		p.Run(i, p.rec[i])
	}
	t.Cleanup(func() {
		for _, r := range p.rec {
			require.Empty(t, r.Violations())
		}
	})
	synctest.Wait()
	return p
}

// newPair runs two nodes and links them; node 0 dials.
func newPair(t *testing.T, o linktest.Options) *pair {
	t.Helper()
	p := runPair(t, o)
	require.NoError(t, p.dial(t, 0, 1))
	return p
}

func (p *pair) dial(t *testing.T, from, to int) error {
	err := p.Transports[from].Dial(t.Context(), p.Transports[to].ID(), p.Addr(to))
	time.Sleep(10 * latency)
	synctest.Wait()
	return err
}

// conn is the link of node i to the other.
func (p *pair) conn(t *testing.T, i int) *link.Conn {
	t.Helper()
	c := p.rec[i].Link(p.Transports[1-i].ID())
	require.NotNil(t, c, "node %d has no link", i)
	return c
}

func TestLinkCarriesMessagesBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		for i, c := range []*link.Conn{p.conn(t, 0), p.conn(t, 1)} {
			require.Equal(t, p.Transports[1-i].ID(), c.Peer())
			require.Equal(t, p.Addr(1-i), c.Addr())
			var turn link.Turn
			require.NoError(t, c.Send(&turn, 7, []byte("he"), []byte("llo")))
			require.NoError(t, c.Send(&turn, 7, nil, nil))
			require.NoError(t, c.SendControl([]byte("control")))
			turn.End()
		}
		time.Sleep(time.Second)
		for _, r := range p.rec {
			require.Equal(t, []string{"hello", ""}, r.Messages())
			require.Equal(t, []string{"control"}, r.Controls())
		}
		require.InDelta(t, 2*latency, p.conn(t, 0).RTT(), float64(latency))
	})
}

func TestMessagesWaitForTheEndOfTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		var turn link.Turn
		require.NoError(t, p.conn(t, 0).Send(&turn, 0, nil, []byte("later")))
		time.Sleep(time.Second)
		require.Empty(t, p.rec[1].Messages())
		turn.End()
		time.Sleep(time.Second)
		require.Equal(t, []string{"later"}, p.rec[1].Messages())
	})
}
