package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func addrPorts(list ...string) (addrs []netip.AddrPort) {
	for _, s := range list {
		addrs = append(addrs, netip.MustParseAddrPort(s))
	}
	return addrs
}

// logger returns a logger and where it logs to.
func logger() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

func TestPeersAreRememberedSeenLastFirst(t *testing.T) {
	log, logs := logger()
	file := filepath.Join(t.TempDir(), "peers")
	m := newMemory(file, log)
	m.saw(addrPorts("10.0.0.2:1", "10.0.0.1:1"))
	m.saw(addrPorts("10.0.0.3:1"))
	require.NoError(t, m.write())
	again := newMemory(file, log)
	require.Equal(t, addrPorts("10.0.0.3:1", "10.0.0.1:1", "10.0.0.2:1"), again.addrs)
	require.Empty(t, logs.String())
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing is left beside the file")
}

func TestMemoryIsBounded(t *testing.T) {
	log, _ := logger()
	file := filepath.Join(t.TempDir(), "peers")
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "10.0.%d.%d:23550\n", i/250, i%250)
	}
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	m := newMemory(file, log)
	require.Len(t, m.addrs, statePeers)
	m.saw(addrPorts("10.9.0.1:1"))
	require.Len(t, m.addrs, statePeers)
	require.Equal(t, addrPorts("10.9.0.1:1")[0], m.addrs[0])
}

func TestGarbageInTheStateFileIsIgnoredWithAWarning(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want []netip.AddrPort
		log  string
	}{
		"some lines":   {"10.0.0.1:1\nwhat\n\n[::1]:5\n0.0.0.0:5\n10.0.0.2:0\n 10.0.0.2:2 \n", addrPorts("10.0.0.1:1", "10.0.0.2:2"), "lines=4"},
		"one long one": {strings.Repeat("x", 1<<20), nil, "level=WARN"},
		"zeros":        {string(make([]byte, 1<<10)), nil, "level=WARN"},
		"empty":        {"", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			log, logs := logger()
			file := filepath.Join(t.TempDir(), "peers")
			require.NoError(t, os.WriteFile(file, []byte(row.text), 0o600))
			require.Equal(t, row.want, newMemory(file, log).addrs)
			require.Contains(t, logs.String(), row.log)
			require.Equal(t, row.log == "", logs.Len() == 0, logs.String())
		})
	}
}

func TestUnreadableAndAbsentStateFiles(t *testing.T) {
	log, logs := logger()
	dir := t.TempDir()
	require.Empty(t, newMemory(filepath.Join(dir, "none"), log).addrs)
	require.Empty(t, logs.String(), "the first start is no reason to warn")
	require.Empty(t, newMemory(dir, log).addrs)
	require.Contains(t, logs.String(), "cannot read the state file")
}

func TestStateIsWrittenSeldomAndAtTheEnd(t *testing.T) {
	log, logs := logger()
	file := filepath.Join(t.TempDir(), "peers")
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(file, log)
		last := ""
		i := 0
		writes := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.run(ctx, func() []netip.AddrPort {
				i++
				return addrPorts(fmt.Sprintf("10.0.0.1:%d", i))
			})
		}()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if text, err := os.ReadFile(file); err == nil && string(text) != last {
				last = string(text)
				writes++
			}
		}
		require.Equal(t, 6, writes)
		cancel()
		<-ended
		require.Equal(t, addrPorts(fmt.Sprintf("10.0.0.1:%d", i))[0], newMemory(file, log).addrs[0])
	})
	require.Empty(t, logs.String())
}

func TestFailureToWriteIsLoggedOnce(t *testing.T) {
	log, logs := logger()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(filepath.Join("nowhere", "at", "all"), log)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m.run(ctx, func() []netip.AddrPort { return addrPorts("10.0.0.1:1") })
	})
	require.Equal(t, 1, strings.Count(logs.String(), "cannot write the state file"))
}
