//go:build unix

package endpoint

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// listenUnix opens the socket of a node at port; its folder is prepared.
func listenUnix(t *testing.T, port int) {
	t.Helper()
	path, err := Prepare(port)
	require.NoError(t, err)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
}

func TestDialPrefersTheUnixSocket(t *testing.T) {
	t.Setenv(RuntimeDir, filepath.Join(t.TempDir(), "iris"))
	port := listenTCP(t).Addr().(*net.TCPAddr).Port
	listenUnix(t, port)
	require.Equal(t, "unix", dialed(t, port))
}

func TestASocketThatOthersCouldHavePlacedIsNotUsed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, folder string){
		"written by the group": func(t *testing.T, f string) { require.NoError(t, os.Chmod(f, 0o770)) },
		"written by all":       func(t *testing.T, f string) { require.NoError(t, os.Chmod(f, 0o777|os.ModeSticky)) },
		"a link": func(t *testing.T, f string) {
			require.NoError(t, os.Rename(f, f+"2"))
			require.NoError(t, os.Symlink(f+"2", f))
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "iris")
			t.Setenv(RuntimeDir, folder)
			port := listenTCP(t).Addr().(*net.TCPAddr).Port
			listenUnix(t, port)
			spoil(t, folder)
			require.Equal(t, "tcp", dialed(t, port))
			_, err := Prepare(port)
			require.Error(t, err, "a node does not listen there either")
		})
	}
}

func TestAFolderOfSomebodyElseIsNotTrusted(t *testing.T) {
	info, err := os.Lstat(t.TempDir())
	require.NoError(t, err)
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	require.NoError(t, trusted("folder", info, owner))
	require.ErrorContains(t, trusted("folder", info, owner+1), "belongs to user")
	require.NoError(t, trusted("folder", info, owner+1, owner))
}

func TestADeadSocketDoesNotKeepFromTCP(t *testing.T) {
	t.Setenv(RuntimeDir, filepath.Join(t.TempDir(), "iris"))
	port := listenTCP(t).Addr().(*net.TCPAddr).Port
	path, err := Prepare(port)
	require.NoError(t, err)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.Equal(t, "tcp", dialed(t, port))
}

func TestPrepareMakesAFolderForTheNodeAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "iris")
	t.Setenv(RuntimeDir, folder)
	path, err := Prepare(55555)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(folder, "55555.sock"), path)
	info, err := os.Stat(folder)
	require.NoError(t, err)
	want := os.FileMode(0o700)
	if os.Getuid() == 0 {
		want = 0o755
	}
	require.Equal(t, want, info.Mode().Perm())
	again, err := Prepare(55555)
	require.NoError(t, err)
	require.Equal(t, path, again)
}

func TestAPathTooLongForASocketNamesTheRemedy(t *testing.T) {
	t.Setenv(RuntimeDir, "/tmp/"+strings.Repeat("x", 100))
	_, err := Socket(55555)
	require.ErrorContains(t, err, RuntimeDir)
}
