package link_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// A rawPeer is a node made by hand, that does what no good node does.
type rawPeer struct {
	network   *linktest.Network
	cert      tls.Certificate
	transport *quic.Transport
}

// newRawPeer makes a node at the address of number i, until the end of the test.
func newRawPeer(t *testing.T, n *linktest.Network, i int, cert tls.Certificate) *rawPeer {
	t.Helper()
	r := &rawPeer{n, cert, &quic.Transport{Conn: n.Socket(n.Addr(i))}}
	t.Cleanup(func() { require.NoError(t, r.transport.Close()) })
	return r
}

func (r *rawPeer) dial(t *testing.T, i int, alpn string) (*quic.Conn, error) {
	conf := &tls.Config{Certificates: []tls.Certificate{r.cert}, InsecureSkipVerify: true, NextProtos: []string{alpn}}
	return r.transport.Dial(t.Context(), net.UDPAddrFromAddrPort(r.network.Addr(i)), conf, &quic.Config{KeepAlivePeriod: time.Second})
}

// link makes a link to node i and returns its connection and control stream.
func (r *rawPeer) link(t *testing.T, i int) (*quic.Conn, *quic.Stream) {
	t.Helper()
	q, err := r.dial(t, i, link.ALPN)
	require.NoError(t, err)
	control := must(q.OpenStream())
	must(control.Write(helloFrame()))
	time.Sleep(10 * latency)
	return q, control
}

// besideBroken is two good nodes with a link, one of which has a link to a broken
// node, too. Messages between the good ones are echoed.
func besideBroken(t *testing.T) (p *pair, r *rawPeer) {
	t.Helper()
	p = newPair(t, linktest.Options{})
	p.rec[1].OnMessage = func(turn *link.Turn, c *link.Conn, msg []byte) { _ = c.Send(turn, 0, nil, msg) }
	return p, newRawPeer(t, p.Network, 300, signed(t, linktest.NetworkOf(t, linktest.Name, linktest.Key(t)), nothingWrong))
}

// requireUnaffected wants round trips between the good nodes to take what they
// take: two ways, and no more.
func requireUnaffected(t *testing.T, p *pair) {
	t.Helper()
	before := len(p.rec[0].Messages())
	for i := range 20 {
		began := time.Now()
		send(t, p.conn(t, 0), 0, "ping")
		for len(p.rec[0].Messages()) == before+i {
			require.Less(t, time.Since(began), 4*latency)
			time.Sleep(latency / 4)
		}
	}
}

func TestBrokenPeerIsLeftAloneForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := besideBroken(t)
		q, control := r.link(t, 0)
		require.Equal(t, 2, p.rec[0].Links())
		must(control.Write(binary.BigEndian.AppendUint32(nil, 1<<31)))
		require.Equal(t, link.ReasonProtocol, ended(t, q))
		for range 5 {
			q, _ = r.link(t, 0)
			require.Equal(t, link.ReasonProtocol, ended(t, q))
			require.Equal(t, 2, p.rec[0].Ups(), "no link so soon")
			requireUnaffected(t, p)
		}
		time.Sleep(link.BrokenPause)
		r.link(t, 0)
		require.Equal(t, 3, p.rec[0].Ups(), "forgiven")
	})
}

func TestBrokenPeerIsNotDialledForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, linktest.Options{})
		link.WriteControlRaw(p.conn(t, 1), []byte{0xff, 0xff, 0xff, 0xff})
		time.Sleep(10 * latency)
		require.ErrorIs(t, p.rec[0].Downs()[0], link.ReasonProtocol)
		require.ErrorIs(t, p.dial(t, 0, 1), link.ReasonProtocol)
		time.Sleep(link.BrokenPause)
		require.NoError(t, p.dial(t, 0, 1))
	})
}

func TestPeerThatNeverReadsIsBoundedAndHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := besideBroken(t)
		q, _ := r.link(t, 0) // its lanes are never accepted, let alone read
		c := p.rec[0].Link(idOf(must(x509.ParseCertificate(r.cert.Certificate[0])).PublicKey))
		require.NotNil(t, c)
		var turn link.Turn
		accepted, msg := 0, make([]byte, 100_000)
		for range 1000 {
			for flow := range uint64(4) {
				if c.Send(&turn, flow, nil, msg) == nil {
					accepted += len(msg)
				}
			}
			turn.End()
			time.Sleep(latency)
		}
		require.LessOrEqual(t, accepted, 4*(link.LaneLimit+4<<20), "lanes and windows bound it")
		require.ErrorIs(t, c.Send(&turn, 0, nil, msg), link.ErrFull)
		requireUnaffected(t, p)
		_ = q.CloseWithError(0, "")
		time.Sleep(time.Second)
	})
}

func TestPeerThatReadsSlowlyHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := besideBroken(t)
		q, _ := r.link(t, 0)
		c := p.rec[0].Link(idOf(must(x509.ParseCertificate(r.cert.Certificate[0])).PublicKey))
		var turn link.Turn
		require.NoError(t, c.Send(&turn, 0, nil, make([]byte, 1<<20)))
		turn.End()
		lane := must(q.AcceptUniStream(t.Context()))
		for range 100 {
			must(lane.Read(make([]byte, 1)))
			time.Sleep(10 * latency)
		}
		requireUnaffected(t, p)
		require.Equal(t, 2, p.rec[0].Links(), "slow is not broken")
		_ = q.CloseWithError(0, "")
		time.Sleep(time.Second)
	})
}

func TestTenThousandStreamsOfABrokenPeerHarmNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, r := besideBroken(t)
		var taken atomic.Int64
		p.rec[0].OnStream = func(*link.Conn, *link.Stream) link.StreamHandler { taken.Add(1); return new(silent) }
		r.link(t, 0)
		q, err := r.dial(t, 0, link.StreamsALPN)
		require.NoError(t, err)
		opened := 0
		for {
			s, err := q.OpenStream()
			if limit := (*quic.StreamLimitReachedError)(nil); err != nil {
				require.ErrorAs(t, err, &limit)
				break
			}
			must(s.Write([]byte{0, 1, 0, 0, 'x'})) // 64 KiB are declared
			opened++
		}
		time.Sleep(time.Second)
		require.Equal(t, link.MaxStreams, opened)
		require.EqualValues(t, opened, taken.Load())
		requireUnaffected(t, p)
		require.Equal(t, 2, p.rec[0].Links())
	})
}

// silent is a StreamHandler that does nothing.
type silent struct{}

func (*silent) Received(*link.Turn, []byte) {}
func (*silent) Finished()                   {}
func (*silent) Broken(error)                {}
