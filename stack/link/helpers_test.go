package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// send sends messages in one turn.
func send(t *testing.T, c *link.Conn, flow uint64, messages ...string) {
	t.Helper()
	var turn link.Turn
	for _, m := range messages {
		require.NoError(t, c.Send(&turn, flow, nil, []byte(m)))
	}
	turn.End()
}

// countingLog logs to memory; lines counts the lines that contain a word.
func countingLog() (log *slog.Logger, lines func(word string) int) {
	var w syncBuffer
	return slog.New(slog.NewTextHandler(&w, nil)), func(word string) int {
		n := 0
		for line := range strings.Lines(w.String()) {
			if strings.Contains(line, word) {
				n++
			}
		}
		return n
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *syncBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *syncBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// ticketCache counts the session tickets it is given.
type ticketCache struct{ puts int }

func (*ticketCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketCache) Put(string, *tls.ClientSessionState)      { c.puts++ }

// tryRawDial makes a connection to node i by hand, with a good certificate: what
// a broken or hostile node of the network can do.
func tryRawDial(t *testing.T, p *pair, i int, change func(*tls.Config)) (*quic.Conn, error) {
	t.Helper()
	addr := p.Addr(200 + len(p.Transports))
	cert := signed(t, linktest.NetworkOf(t, linktest.Name, linktest.Key(t)), nothingWrong)
	tr := &quic.Transport{Conn: p.Socket(addr)}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{link.ALPN}}
	if change != nil {
		change(conf)
	}
	t.Cleanup(func() { require.NoError(t, tr.Close()) })
	return tr.Dial(t.Context(), net.UDPAddrFromAddrPort(p.Addr(i)), conf, nil)
}

func rawDial(t *testing.T, p *pair, i int, change func(*tls.Config)) *quic.Conn {
	t.Helper()
	q, err := tryRawDial(t, p, i, change)
	require.NoError(t, err)
	return q
}

// ended waits until q is over and tells with which code the peer closed it.
func ended(t *testing.T, q *quic.Conn) link.Reason {
	t.Helper()
	select {
	case <-q.Context().Done():
	case <-time.After(time.Minute): // of the bubble
		require.FailNow(t, "the connection goes on")
	}
	var app *quic.ApplicationError
	require.ErrorAs(t, context.Cause(q.Context()), &app)
	return link.Reason(app.ErrorCode)
}
