package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// statePeers is how many addresses of peers a state file holds.
	statePeers = 256
	// stateInterval is the least time between two writes.
	stateInterval = 10 * time.Second
	// stateLook is how often is looked whether there is something to write.
	stateLook = time.Second
	// stateBytes bounds what is read of a state file: 256 lines are 6 KB.
	stateBytes = 1 << 16
)

// A memory is the file in which a node keeps where its peers were, one address per
// line, the one seen last first. It belongs to one goroutine.
type memory struct {
	file  string // empty: nothing is kept
	log   *slog.Logger
	addrs []netip.AddrPort // seen last first
	kept  []netip.AddrPort // what the file holds
}

// newMemory reads the file. What is unusable in it, or all of it, is ignored with
// a warning: the network can be found without it.
func newMemory(file string, log *slog.Logger) *memory {
	m := &memory{file: file, log: log}
	if file == "" {
		return m
	}
	addrs, garbage, err := readPeers(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		log.Warn("cannot read the state file: it is ignored", "file", file, "err", err)
	case garbage > 0:
		log.Warn("the state file holds lines that are no addresses: they are ignored", "file", file, "lines", garbage)
	}
	if m.addrs = addrs; garbage == 0 {
		m.kept = slices.Clone(addrs)
	}
	return m
}

// readPeers reads the addresses in file, and counts the lines that are none.
func readPeers(file string) (addrs []netip.AddrPort, garbage int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, stateBytes))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		addr, err := netip.ParseAddrPort(line)
		if err != nil || !addr.Addr().Is4() || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() || addr.Port() == 0 {
			garbage++
			continue
		}
		if len(addrs) < statePeers && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, garbage, lines.Err()
}

// saw takes note of where the peers are now.
func (m *memory) saw(peers []netip.AddrPort) {
	slices.SortFunc(peers, netip.AddrPort.Compare)
	merged := make([]netip.AddrPort, 0, statePeers)
	for _, addr := range slices.Concat(peers, m.addrs) {
		if len(merged) < statePeers && addr.IsValid() && !slices.Contains(merged, addr) {
			merged = append(merged, addr)
		}
	}
	m.addrs = merged
}

// write writes the file anew: beside it first and then in its place, so that no
// reader and no crash meets half of it.
func (m *memory) write() error {
	var text strings.Builder
	for _, addr := range m.addrs {
		fmt.Fprintln(&text, addr)
	}
	f, err := os.CreateTemp(filepath.Dir(m.file), filepath.Base(m.file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	_, err = f.WriteString(text.String())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), m.file)
	}
	if err != nil {
		return fmt.Errorf("state: %w", errors.Join(err, os.Remove(f.Name())))
	}
	m.kept = slices.Clone(m.addrs)
	return nil
}

// run keeps the file up to date until ctx is done, and once more then. An error is
// logged when it is the first in a row.
func (m *memory) run(ctx context.Context, peers func() []netip.AddrPort) {
	if m.file == "" {
		return
	}
	ticker := time.NewTicker(stateLook)
	defer ticker.Stop()
	failing := false
	var written time.Time
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		}
		m.saw(peers())
		if !ended && time.Since(written) < stateInterval || slices.Equal(m.addrs, m.kept) {
			continue
		}
		written = time.Now()
		err := m.write()
		if err != nil && !failing {
			m.log.Warn("cannot write the state file", "err", err)
		}
		failing = err != nil
	}
}
