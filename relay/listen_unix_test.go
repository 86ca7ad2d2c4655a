//go:build unix

package relay

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/spec/endpoint"
)

// listen opens the endpoint at a free port, and closes it after the test.
func listen(t *testing.T) (port int, listeners []net.Listener, warnings []error) {
	listeners, warnings, err := Listen(0)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	})
	return listeners[0].Addr().(*net.TCPAddr).Port, listeners, warnings
}

func TestListenOpensLoopbackAndSocketOnly(t *testing.T) {
	t.Setenv("IRIS_RUNTIME_DIR", t.TempDir())
	port, listeners, warnings := listen(t)

	require.LessOrEqual(t, len(warnings), 1, "only IPv6 may be missing")
	require.Equal(t, 3, len(listeners)+len(warnings))
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			require.True(t, a.IP.IsLoopback())
			require.Equal(t, port, a.Port)
		}
	}
	conn, err := endpoint.Dial(t.Context(), port)
	require.NoError(t, err)
	require.Equal(t, "unix", conn.RemoteAddr().Network())
	require.NoError(t, conn.Close())
}

func TestListenSaysWhatToDoWhenThePortIsTaken(t *testing.T) {
	t.Setenv("IRIS_RUNTIME_DIR", t.TempDir())
	port, _, _ := listen(t)
	_, _, err := Listen(port)
	require.ErrorContains(t, err, "another port")
}

func TestSocketOfADeadNodeIsReplaced(t *testing.T) {
	t.Setenv("IRIS_RUNTIME_DIR", t.TempDir())
	path, err := endpoint.Prepare(4711)
	require.NoError(t, err)
	dead, err := net.Listen("unix", path)
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	require.FileExists(t, path)

	l, err := listenSocket(4711)

	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, socketMode(), info.Mode().Perm())
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)
}

func TestSocketOfALivingNodeAndOtherFilesStay(t *testing.T) {
	t.Setenv("IRIS_RUNTIME_DIR", t.TempDir())
	living, err := listenSocket(4711)
	require.NoError(t, err)
	defer func() { _ = living.Close() }()
	_, err = listenSocket(4711)
	require.ErrorContains(t, err, "another node")
	_, err = net.Dial("unix", living.Addr().String())
	require.NoError(t, err)

	path, err := endpoint.Prepare(4712)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err = listenSocket(4712)
	require.ErrorContains(t, err, "not a socket")
	require.FileExists(t, path)
}

func TestFolderThatOthersCanWriteIsNotUsed(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	t.Setenv("IRIS_RUNTIME_DIR", open)
	_, listeners, warnings := listen(t)
	require.NotEmpty(t, warnings)
	for _, l := range listeners {
		require.Equal(t, "tcp", l.Addr().Network())
	}
}

func TestAcceptedConnectionsDoNotDelaySmallMessages(t *testing.T) {
	l, err := listenTCP("127.0.0.1", 0)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	out, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer func() { _ = out.Close() }()
	in, err := l.Accept()
	require.NoError(t, err)
	defer func() { _ = in.Close() }()
	raw, err := in.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var noDelay int
	require.NoError(t, raw.Control(func(fd uintptr) {
		noDelay, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	}))
	require.NoError(t, err)
	require.NotZero(t, noDelay)
}
