package link_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

type netAddr = netip.AddrPort

func TestMessagesUpToTheLimitOfThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = link.LaneLimit + 1<<20 // larger than any window, too
		p := newPair(t, linktest.Options{MaxMessage: limit})
		c := p.conn(t, 0)
		var turn link.Turn
		require.ErrorIs(t, c.Send(&turn, 0, []byte("x"), make([]byte, limit)), link.ErrTooLarge)
		require.ErrorIs(t, c.SendControl(make([]byte, limit+1)), link.ErrTooLarge)
		big := bytes.Repeat([]byte("0123456789abcdef"), limit/16)
		require.NoError(t, c.Send(&turn, 0, nil, big))
		require.NoError(t, c.Send(&turn, 1, nil, []byte("small")))
		require.ErrorIs(t, c.Send(&turn, 0, nil, []byte("no room beside it")), link.ErrFull)
		turn.End()
		time.Sleep(4 * time.Second)
		require.Equal(t, []string{"small", string(big)}, p.rec[1].Messages())
		send(t, c, 0, "room again")
		time.Sleep(time.Second)
		require.Len(t, p.rec[1].Messages(), 3)
	})
}

func TestFullLaneRefusesAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		release := make(chan struct{})
		p.rec[1].OnMessage = nil
		block(t, p, release)
		var turn link.Turn
		msg := make([]byte, 10_000)
		accepted := 0
		for ; c.Send(&turn, 0, nil, msg) == nil; accepted++ {
			turn.End()
		}
		require.ErrorIs(t, c.Send(&turn, 0, nil, msg), link.ErrFull)
		require.GreaterOrEqual(t, accepted*len(msg), link.LaneLimit-len(msg))
		require.LessOrEqual(t, accepted*len(msg), link.LaneLimit+4<<20, "windows and bound hold")
		turn.End()
		send(t, c, 1, "other lane")
		close(release)
		time.Sleep(5 * time.Second)
		require.Contains(t, p.rec[1].Messages(), "other lane")
		require.Len(t, p.rec[1].Messages(), accepted+2, "everything accepted arrived")
	})
}

// block keeps the first lane of node 1 busy with a message until release.
func block(t *testing.T, p *pair, release chan struct{}) {
	t.Helper()
	p.rec[1].OnMessage = func(_ *link.Turn, _ *link.Conn, msg []byte) {
		if string(msg) == "block" {
			<-release
		}
	}
	send(t, p.conn(t, 0), 0, "block")
	time.Sleep(10 * latency)
}

func TestControlIsNotDelayedByStalledLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		release := make(chan struct{})
		p.rec[1].OnMessage = func(*link.Turn, *link.Conn, []byte) { <-release }
		// Every lane filled to the brim, and nobody reads.
		var turn link.Turn
		for range 2000 {
			for flow := range uint64(4) {
				_ = c.Send(&turn, flow, nil, make([]byte, 10_000))
			}
			turn.End()
			time.Sleep(latency / 10)
		}
		before := time.Now()
		p.rec[1].OnControl = func(*link.Conn, []byte) { require.LessOrEqual(t, time.Since(before), 4*latency) }
		require.NoError(t, c.SendControl([]byte("heartbeat")))
		time.Sleep(10 * latency)
		require.Equal(t, []string{"heartbeat"}, p.rec[1].Controls())
		close(release)
		time.Sleep(time.Second)
	})
}

func TestControlOvertakesASaturatedLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		c := p.conn(t, 0)
		// A path of about 10 Mbit/s: the lanes' megabytes need seconds.
		sent := time.Now()
		p.Paths.Watch(func(from, _ netAddr, b []byte) bool {
			if from == p.Addr(0) {
				if sent.Before(time.Now()) {
					sent = time.Now()
				}
				sent = sent.Add(time.Duration(len(b)) * time.Microsecond)
				return time.Until(sent) < 20*time.Millisecond // a short queue, then loss
			}
			return true
		})
		var turn link.Turn
		for flow := range uint64(4) {
			require.NoError(t, c.Send(&turn, flow, nil, make([]byte, 1_000_000)))
		}
		turn.End()
		time.Sleep(200 * time.Millisecond)
		require.Less(t, len(p.rec[1].Messages()), 4, "the lanes are busy")
		before := time.Now()
		for range 60 {
			require.NoError(t, c.SendControl(make([]byte, 1000)))
		}
		for len(p.rec[1].Controls()) < 60 {
			time.Sleep(latency)
		}
		// About 200 ms with what is lost on the way; 560 ms in turns with four lanes.
		require.Less(t, time.Since(before), 350*time.Millisecond)
		require.Less(t, len(p.rec[1].Messages()), 4, "the lanes are still busy")
	})
}

func TestPeerThatDoesNotReadControlLosesItsLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		release := make(chan struct{})
		p.rec[1].OnControl = func(*link.Conn, []byte) { <-release }
		c := p.conn(t, 0)
		var err error
		for range 5000 {
			if err = c.SendControl(make([]byte, 1000)); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, link.ErrFull)
		time.Sleep(time.Second)
		require.ErrorIs(t, p.rec[0].Downs()[0], link.ReasonOverflow)
		close(release)
		time.Sleep(time.Second)
		require.ErrorIs(t, p.rec[1].Downs()[0], link.ReasonOverflow)
	})
}

// helloFrame is a good hello as it goes over the wire.
func helloFrame() []byte { return []byte{0, 0, 0, 6, 0, 1, 0, 16, 0, 0} }

// rawLink makes a link to node 0 by hand and returns its connection.
func rawLink(t *testing.T, p *pair) (*quic.Conn, *quic.Stream) {
	t.Helper()
	q := rawDial(t, p, 0, nil)
	control := must(q.OpenStream())
	must(control.Write(helloFrame()))
	time.Sleep(10 * latency)
	require.Equal(t, 1, p.rec[0].Links())
	return q, control
}

func TestLengthBombsCloseTheLink(t *testing.T) {
	for name, length := range map[string]uint32{"limit+1": link.DefaultMaxMessage + 1, "2^31": 1 << 31, "2^32-4": 1<<32 - 4} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				q, control := rawLink(t, p)
				must(control.Write(binary.BigEndian.AppendUint32(nil, length)))
				require.Equal(t, link.ReasonProtocol, ended(t, q))
			})
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				q, _ := rawLink(t, p)
				lane := must(q.OpenUniStream())
				must(lane.Write([]byte{0, 0, 0, 2, 'o', 'k'}))
				must(lane.Write(binary.BigEndian.AppendUint32(nil, length)))
				require.Equal(t, link.ReasonProtocol, ended(t, q))
				time.Sleep(10 * latency)
				require.Equal(t, []string{"ok"}, p.rec[0].Messages())
				require.ErrorIs(t, p.rec[0].Downs()[0], link.ReasonProtocol)
			})
		})
	}
}

func TestEndOfAStreamClosesTheLink(t *testing.T) {
	for name, end := range map[string]func(q *quic.Conn, control *quic.Stream){
		"lane closed": func(q *quic.Conn, _ *quic.Stream) {
			s := must(q.OpenUniStream())
			must(s.Write([]byte{0}))
			_ = s.Close()
		},
		"lane cancelled": func(q *quic.Conn, _ *quic.Stream) {
			s := must(q.OpenUniStream())
			must(s.Write([]byte{0}))
			s.CancelWrite(1)
		},
		"control closed":  func(_ *quic.Conn, c *quic.Stream) { _ = c.Close() },
		"reading refused": func(_ *quic.Conn, c *quic.Stream) { c.CancelWrite(7) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				q, control := rawLink(t, p)
				end(q, control)
				require.Equal(t, link.ReasonProtocol, ended(t, q))
			})
		})
	}
}

func TestHellosThatAreNone(t *testing.T) {
	for name, row := range map[string]struct {
		hello  []byte
		reason link.Reason
		word   string
	}{
		"unknown version":  {[]byte{0, 0, 0, 6, 0, 2, 0, 16, 0, 0}, link.ReasonVersion, "version"},
		"version to come":  {[]byte{0, 0, 0, 9, 1, 0, 0, 16, 0, 0, 9, 9, 9}, link.ReasonVersion, "version"},
		"too short":        {[]byte{0, 0, 0, 5, 0, 1, 0, 16, 0}, link.ReasonProtocol, "hello"},
		"empty":            {[]byte{0, 0, 0, 0}, link.ReasonProtocol, "hello"},
		"no room":          {[]byte{0, 0, 0, 6, 0, 1, 0, 0, 0, 9}, link.ReasonProtocol, "hello"},
		"length bomb":      {[]byte{255, 255, 255, 255}, link.ReasonProtocol, "hello"},
		"nothing at all":   {[]byte{0}, link.ReasonProtocol, ""},
		"HTTP":             {[]byte("GET / HTTP/1.1\r\n\r\n"), link.ReasonProtocol, "hello"},
		"hello of 2000 B":  {append([]byte{0, 0, 7, 208}, make([]byte, 2000)...), link.ReasonProtocol, "hello"},
		"only its length":  {[]byte{0, 0, 0, 6}, link.ReasonProtocol, ""},
		"half a hello":     {[]byte{0, 0, 0, 6, 0, 1}, link.ReasonProtocol, ""},
		"one byte at time": {nil, link.ReasonProtocol, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				q := rawDial(t, p, 0, nil)
				if row.hello != nil {
					must(must(q.OpenStream()).Write(row.hello))
				}
				began := time.Now()
				require.Equal(t, row.reason, ended(t, q))
				require.LessOrEqual(t, time.Since(began), 4*time.Second)
				time.Sleep(10 * latency)
				require.Zero(t, p.rec[0].Ups())
				if row.word != "" {
					require.EqualValues(t, 1, p.Transports[0].Refused()[row.word])
				}
			})
		})
	}
}

func TestPeerCannotOpenMoreStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		q, _ := rawLink(t, p)
		for range 4 {
			must(q.OpenUniStream())
		}
		_, err := q.OpenUniStream()
		require.ErrorAs(t, err, new(*quic.StreamLimitReachedError))
		must(must(q.OpenStream()).Write([]byte{0}))
		require.Equal(t, link.ReasonProtocol, ended(t, q), "a second bidirectional one")
	})
}

func TestMessagesChoppedIntoBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := runPair(t, linktest.Options{})
		q, _ := rawLink(t, p)
		lane := must(q.OpenUniStream())
		for _, b := range []byte{0, 0, 0, 2, 'o', 'k', 0, 0, 0, 0, 0, 0, 0, 1, '!'} {
			must(lane.Write([]byte{b}))
			time.Sleep(10 * latency)
		}
		require.Equal(t, []string{"ok", "", "!"}, p.rec[0].Messages())
		require.NoError(t, q.CloseWithError(0, ""))
		time.Sleep(10 * latency)
	})
}
