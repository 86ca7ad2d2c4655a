package endpoint

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// freePort is a port of 127.0.0.1 at which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	l := listenTCP(t)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	return port
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// dialed attaches and tells through which network.
func dialed(t *testing.T, port int) string {
	t.Helper()
	conn, err := Dial(t.Context(), port)
	require.NoError(t, err)
	defer conn.Close()
	return conn.RemoteAddr().Network()
}

func TestFoldersFollowTheUser(t *testing.T) {
	for _, row := range []struct {
		name string
		user user
		want []string
	}{
		{"the variable decides for everybody", user{0, "/srv/x", "/run/user/0", "/tmp"}, []string{"/srv/x"}},
		{"root", user{0, "", "/run/user/0", "/tmp"}, []string{"/run/iris"}},
		{"a user with a session", user{7, "", "/run/user/7", "/tmp"}, []string{"/run/user/7/iris", "/run/iris"}},
		{"a user without", user{7, "", "", "/tmp"}, []string{"/tmp/iris-7", "/run/iris"}},
	} {
		t.Run(row.name, func(t *testing.T) { require.Equal(t, row.want, row.user.folders()) })
	}
}

func TestDialSaysThatThereIsNoNode(t *testing.T) {
	t.Setenv(RuntimeDir, filepath.Join(t.TempDir(), "missing"))
	port := freePort(t)
	_, err := Dial(t.Context(), port)
	require.ErrorIs(t, err, ErrNoNode)
	require.ErrorContains(t, err, strconv.Itoa(port))
}

func TestDialFallsBackToTCP(t *testing.T) {
	t.Setenv(RuntimeDir, filepath.Join(t.TempDir(), "missing"))
	l := listenTCP(t)
	require.Equal(t, "tcp", dialed(t, l.Addr().(*net.TCPAddr).Port))
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Setenv(RuntimeDir, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Dial(ctx, freePort(t))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrNoNode)
}

func TestPortsOutOfRangeAreRefused(t *testing.T) {
	for _, port := range []int{-1, 0, 65536} {
		_, err := Socket(port)
		require.Error(t, err)
		_, err = Dial(t.Context(), port)
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrNoNode)
	}
}

func TestAnEnvironmentIsRead(t *testing.T) {
	t.Setenv(RuntimeDir, "/srv/iris")
	require.Equal(t, user{os.Getuid(), "/srv/iris", os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()}, currentUser())
}
