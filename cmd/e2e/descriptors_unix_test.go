//go:build unix

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	iris "github.com/project-iris/iris/sdk"
)

func TestLesson04OutOfDescriptorsIsATypedRefusal(t *testing.T) {
	const descriptors, clients = 128, 300
	c, err := cluster.Start(t.Context(), cluster.Config{
		Nodes: 1, Binary: irisBinary, Prefix: []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$@"`, descriptors), "sh"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	serve(t, c.Nodes[0], "echo", echo)
	var attached []*iris.Connection
	refused := 0
	for range clients {
		conn, err := iris.Connect(c.Nodes[0].Port, iris.WithDialer(c.Nodes[0].Dial))
		if err != nil {
			require.ErrorIs(t, err, iris.ErrRefused)
			refused++
			continue
		}
		attached = append(attached, conn)
	}
	t.Logf("%d attached, %d refused", len(attached), refused)
	require.Greater(t, len(attached), 10)
	require.Positive(t, refused)
	for _, conn := range attached { // those who are attached are served
		_, err := conn.Request(within(patience), "echo", nil)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { // and when they are gone there is room again
		conn, err := iris.Connect(c.Nodes[0].Port, iris.WithDialer(c.Nodes[0].Dial))
		return err == nil && conn.Close() == nil
	}, patience, 10*time.Millisecond)
}
