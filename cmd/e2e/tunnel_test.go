package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	iris "github.com/project-iris/iris/sdk"
)

// A chatterer sends through its tunnels until sending fails, which it reports.
type chatterer struct {
	service
	failed chan error
}

func (c *chatterer) HandleTunnel(t *iris.Tunnel) {
	for {
		// It takes what comes, so that the other side knows that it has got everything.
		if _, err := t.Recv(within(50 * time.Millisecond)); err == nil {
			continue
		}
		if err := t.Send(within(patience), []byte("and another thing")); err != nil {
			c.failed <- err
			return
		}
	}
}

func TestLesson09SendFailsAfterTheOtherSideHasClosed(t *testing.T) {
	c := startCluster(t, 2)
	chat := &chatterer{failed: make(chan error, 1)}
	s, err := iris.Register(c.Nodes[0].Port, "chat", chat, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Unregister()) })
	tunnel, err := connect(t, c.Nodes[1]).Tunnel(t.Context(), "chat")
	require.NoError(t, err)
	require.NoError(t, tunnel.Send(t.Context(), []byte("last words")))
	began := time.Now()
	require.NoError(t, tunnel.Close())
	require.ErrorIs(t, <-chat.failed, iris.ErrClosed)
	require.Less(t, time.Since(began), 5*time.Second)
}

// within is a context that ends by itself.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
