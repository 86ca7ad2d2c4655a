package e2e

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/cmd/internal/cluster"
	"github.com/project-iris/iris/cmd/internal/load"
	"github.com/project-iris/iris/cmd/internal/node"
	iris "github.com/project-iris/iris/sdk"
)

var floodTime = flag.Duration("flood", 3*time.Second, "how long the floods of forged datagrams last")

// A flood is datagrams from forged sources to one node.
type flood struct {
	sources []net.Conn
	rate    int                // datagrams a second
	forge   func(number int64) // makes the next one of datagram
	next    []byte
}

// newFlood makes a flood from 64 addresses and ports. A source on a loopback
// address is as forged as one can be without a raw socket: the node has never
// heard of it.
func newFlood(t *testing.T, to string, rate int, forged forgery) *flood {
	t.Helper()
	f := &flood{rate: rate, next: forged.datagram}
	f.forge = func(number int64) { binary.BigEndian.PutUint64(f.next[forged.changes:], uint64(number)) }
	for i := range 64 {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 250, byte(i), byte(1+i))}}
		conn, err := d.DialContext(t.Context(), "udp4", to)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		f.sources = append(f.sources, conn)
	}
	return f
}

// run sends until ctx is done, a millisecond's worth at a time, and returns the
// number of datagrams.
func (f *flood) run(ctx context.Context) int {
	first := rand.Int64()
	sent := 0
	began := time.Now()
	for ticker := time.Tick(time.Millisecond); ctx.Err() == nil; <-ticker {
		for due := int(time.Since(began).Seconds() * float64(f.rate)); sent < due && ctx.Err() == nil; sent++ {
			f.forge(first + int64(sent))
			_, _ = f.sources[sent%len(f.sources)].Write(f.next) // what finds no room is the attacker's loss
		}
	}
	return sent
}

// A forgery is a datagram of which 8 bytes change each time.
type forgery struct {
	datagram []byte
	changes  int
}

// forgedInitial looks like the first packet of a QUIC client, up to its encrypted
// part: version 1, two connection ids of 8 bytes, no token, 1200 bytes in all.
func forgedInitial() forgery {
	b := make([]byte, 1200)
	copy(b, []byte{0xc3, 0, 0, 0, 1, 8})
	b[14] = 8
	length := len(b) - 26
	b[24], b[25] = 0x40|byte(length>>8), byte(length)
	return forgery{b, 6} // the connection id that it asks for
}

// A usage is what a process has used.
type usage struct {
	user, system time.Duration
	resident     int // bytes
}

// usageOf reads the usage of a process; Linux only.
func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		t.Skip("needs /proc")
	}
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after) // from the third on: state
	number := func(i int) int {
		n, err := strconv.Atoi(fields[i-3])
		require.NoError(t, err)
		return n
	}
	return usage{time.Duration(number(14)) * tick, time.Duration(number(15)) * tick, number(24) * os.Getpagesize()}
}

// A floodReport is what a flood did to a node.
type floodReport struct {
	sent         int
	took         time.Duration
	harmless     int     // rounds in which no request over the node's link failed, and their 99th percentile at most doubled
	user, system float64 // share of a core that the node used for it, in itself and in the kernel
	grown        int     // bytes that the node's memory grew by
}

// A flood begins and ends a few times, and more often until it has done no harm
// once: a machine that is busy with other things is so in some rounds, a flood that
// harms does so in all.
const (
	floodRounds     = 3
	mostFloodRounds = 8
)

// floodSlack is what the 99th percentile may rise by where attacker, victim and
// clients share few cores.
const floodSlack = 10 * time.Millisecond

// withstand floods node 0 of c while it answers requests of node 1's client, and
// for comparison, as the attacker works on the same machine, a socket that nobody
// reads. meanwhile runs beside it once.
func withstand(t *testing.T, c *cluster.Cluster, rate int, forged forgery, meanwhile func()) floodReport {
	t.Helper()
	victim := c.Nodes[0]
	s, err := victim.Status(t.Context())
	require.NoError(t, err)
	serve(t, victim, "echo", echo)
	conn := connect(t, c.Nodes[1])
	nobody, err := net.ListenPacket("udp4", "127.250.0.0:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	idle := newFlood(t, nobody.LocalAddr().String(), rate, forged)
	attack := newFlood(t, s.Address, rate, forged)
	requestsFor(t, conn, time.Second) // warm
	var r floodReport
	before := usageOf(t, victim.PID())
	var wg sync.WaitGroup
	wg.Go(meanwhile)
	for i := 0; i < floodRounds || i < mostFloodRounds && r.harmless == 0; i++ {
		began := usageOf(t, victim.PID())
		_, _, quiet := beside(t, conn, idle)
		middle := usageOf(t, victim.PID())
		sent, took, during := beside(t, conn, attack)
		r.sent += sent
		r.took += took
		ended := usageOf(t, victim.PID())
		r.user += (ended.user - 2*middle.user + began.user).Seconds()
		r.system += (ended.system - 2*middle.system + began.system).Seconds()
		if len(during.Errors) == 0 && during.P99 <= 2*quiet.P99+floodSlack {
			r.harmless++
		}
		t.Logf("requests without: %v %v", quiet, quiet.Errors)
		t.Logf("requests beside:  %v %v", during, during.Errors)
	}
	wg.Wait()
	r.user /= r.took.Seconds()
	r.system /= r.took.Seconds()
	r.grown = usageOf(t, victim.PID()).resident - before.resident
	t.Logf("%d datagrams in %v, %.0f a second: %.0f %% of a core and %.0f %% in the kernel, %+d KiB of memory",
		r.sent, r.took.Round(time.Millisecond), float64(r.sent)/r.took.Seconds(), 100*r.user, 100*r.system, r.grown/1024)
	return r
}

// beside runs a flood for a round, and requests at the same time.
func beside(t *testing.T, conn *iris.Connection, f *flood) (sent int, took time.Duration, s load.Summary) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), *floodTime/floodRounds)
	defer stop()
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { sent = f.run(ctx) })
	s = requestsFor(t, conn, *floodTime/floodRounds)
	wg.Wait()
	return sent, time.Since(began), s
}

// requestsFor sends 300 requests a second, whatever their answers do.
func requestsFor(t *testing.T, conn *iris.Connection, d time.Duration) load.Summary {
	meter := load.NewMeter()
	load.Run(t.Context(), load.Config{InFlight: 64, Rate: 300, Duration: d}, meter, func(ctx context.Context) error {
		_, err := conn.Request(ctx, "echo", []byte("beside it"))
		return err
	})
	return meter.Summary()
}

func TestFloodOfForgedInitialsHarmsNobody(t *testing.T) {
	c := startCluster(t, 2)
	var newcomer time.Duration
	r := withstand(t, c, 5_000, forgedInitial(), func() {
		_, err := c.Add(3)
		if err != nil {
			t.Error(err)
			return
		}
		s, err := c.Nodes[2].AwaitStatus(t.Context(), patience, func(s node.Status) bool { return len(s.Peers) == 2 })
		if err != nil {
			t.Errorf("the newcomer sees %d peers: %v", len(s.Peers), err)
		}
		newcomer = time.Since(c.Nodes[2].Started)
	})
	t.Logf("a node that came meanwhile saw both others after %v", newcomer)
	require.Less(t, newcomer, 10*time.Second)
	require.Less(t, r.grown, 32<<20)
	require.Positive(t, r.harmless, "requests failed or were slowed down each time")
}
