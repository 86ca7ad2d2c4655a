package cli

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/project-iris/iris/stack/discovery"
)

// A portHolder is a process that holds one of the UDP ports that nodes live on.
type portHolder struct {
	Address netip.AddrPort `json:"address"`
	Process string         `json:"process,omitempty"` // empty if it may not be known
	PID     int            `json:"pid,omitempty"`
}

// who names the process.
func (p portHolder) who() string {
	if p.PID == 0 {
		return "a process of another user"
	}
	return fmt.Sprintf("%s (pid %d)", p.Process, p.PID)
}

// portHolders looks in /proc who holds the well-known UDP ports on this host; nobody
// where there is no /proc.
func portHolders() []portHolder {
	holders := make(map[string]*portHolder) // by inode of the socket
	for _, table := range []string{"udp", "udp6"} {
		text, err := os.ReadFile(filepath.Join("/proc/net", table))
		if err != nil {
			continue
		}
		for inode, addr := range wellKnown(string(text)) {
			holders[inode] = &portHolder{Address: addr}
		}
	}
	if len(holders) == 0 {
		return []portHolder{}
	}
	// Of the processes of other users no more than the port is seen.
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inode := strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")
		if h := holders[inode]; h != nil && h.PID == 0 {
			parts := strings.Split(link, "/")
			h.PID, _ = strconv.Atoi(parts[2])
			name, _ := os.ReadFile(filepath.Join("/proc", parts[2], "comm"))
			h.Process = strings.TrimSpace(string(name))
		}
	}
	list := withoutEars(holders)
	slices.SortFunc(list, func(a, b portHolder) int { return a.Address.Compare(b.Address) })
	return list
}

// withoutEars lists the holders but for sockets of IPv6 that belong to a process with one of IPv4: a node's, for calls.
func withoutEars(holders map[string]*portHolder) []portHolder {
	nodes := make(map[int]bool)
	for _, h := range holders {
		nodes[h.PID] = nodes[h.PID] || h.PID != 0 && h.Address.Addr().Is4()
	}
	list := make([]portHolder, 0, len(holders))
	for _, h := range holders {
		if !h.Address.Addr().Is6() || !nodes[h.PID] {
			list = append(list, *h)
		}
	}
	return list
}

// wellKnown reads a table of /proc/net and keeps the sockets on well-known ports, by
// inode. Of IPv6 only the unspecified address counts: it shuts out IPv4, too.
func wellKnown(table string) map[string]netip.AddrPort {
	found := make(map[string]netip.AddrPort)
	for _, line := range strings.Split(table, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			continue
		}
		host, number, _ := strings.Cut(fields[1], ":")
		port, err := strconv.ParseUint(number, 16, 16)
		if err != nil || uint16(port) < discovery.FirstPort || uint16(port) >= discovery.FirstPort+discovery.Ports {
			continue
		}
		raw, err := hex.DecodeString(host)
		switch {
		case err == nil && len(raw) == 4:
			// The kernel prints the address as a number of the host's byte order.
			var ip [4]byte
			binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
			found[fields[9]] = netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(port))
		case err == nil && len(raw) == 16 && strings.Trim(host, "0") == "":
			found[fields[9]] = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))
		}
	}
	return found
}

// crowded tells of addresses of which all ports are taken, so that no node can start
// there.
func crowded(holders []portHolder) (findings []finding) {
	everywhere := make(map[uint16]bool)
	for _, h := range holders {
		everywhere[h.Address.Port()] = everywhere[h.Address.Port()] || h.Address.Addr().IsUnspecified()
	}
	taken := make(map[netip.Addr]map[uint16]bool)
	for _, h := range holders {
		ports := taken[h.Address.Addr()]
		if ports == nil {
			ports = make(map[uint16]bool)
			taken[h.Address.Addr()] = ports
		}
		ports[h.Address.Port()] = true
	}
	for addr, ports := range taken {
		for port, all := range everywhere {
			ports[port] = ports[port] || all
		}
		n := 0
		for _, is := range ports {
			if is {
				n++
			}
		}
		if n == discovery.Ports {
			findings = append(findings, finding{true, fmt.Sprintf("All UDP ports that nodes live on, %d to %d, are taken on %v.",
				discovery.FirstPort, discovery.FirstPort+discovery.Ports-1, addr),
				"Stop one of the programs that hold them (they are listed), or have the node use another address of this host with -bind."})
		}
	}
	slices.SortFunc(findings, func(a, b finding) int { return strings.Compare(a.What, b.What) })
	return findings
}
