package link_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/link/linktest"
)

// A badPath says what happens to the datagrams of both directions.
type badPath struct {
	loss, again, late float64 // shares that are lost, come twice, come after others
	mtu               int     // of IP, in bytes; if zero, that of Ethernet
	mayBreak          bool    // links may end, so only what arrives is checked
}

func TestBadPathsDeliverNothingWrong(t *testing.T) {
	linktest.Key(t)
	for name, path := range map[string]badPath{
		"2 % loss":    {loss: 0.02},
		"30 % loss":   {loss: 0.3, mayBreak: true},
		"reordering":  {late: 0.3},
		"duplication": {again: 0.5},
		"MTU 1280":    {mtu: 1280},
		"all of it":   {loss: 0.02, again: 0.2, late: 0.2, mtu: 1280},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, linktest.Options{})
				path.spoil(p.Paths)
				began := time.Now()
				const count = 300
				a, b := p.conn(t, 0), p.conn(t, 1)
				for i := range count {
					sendNumbered(a, i)
					sendNumbered(b, i)
					time.Sleep(2 * latency)
				}
				for time.Since(began) < 2*time.Minute && p.rec[0].Links() == 1 && min(len(p.rec[0].Messages()), len(p.rec[1].Messages())) < count {
					time.Sleep(latency)
				}
				t.Logf("%d and %d of %d messages after %v", len(p.rec[0].Messages()), len(p.rec[1].Messages()), count, time.Since(began))
				for _, r := range p.rec {
					requireNumbered(t, r.Messages())
					if !path.mayBreak {
						require.Len(t, r.Messages(), count)
					}
				}
				p.Paths.Watch(nil)
			})
		})
	}
}

// spoil makes a path bad until Watch is called again.
func (path badPath) spoil(paths *linktest.Paths) {
	rng := rand.New(rand.NewPCG(1, 2)) // Watch calls one at a time
	paths.Watch(func(from, to netip.AddrPort, b []byte) bool {
		const headers = 28 // of IPv4 and UDP
		if path.mtu > 0 && len(b)+headers > path.mtu || rng.Float64() < path.loss {
			return false
		}
		later := func(within time.Duration) {
			c := append([]byte(nil), b...)
			time.AfterFunc(time.Duration(rng.Int64N(int64(within))), func() { paths.Inject(from, to, c) })
		}
		if rng.Float64() < path.again {
			later(20 * latency)
		}
		if rng.Float64() < path.late {
			later(20 * latency)
			return false
		}
		return true
	})
}

// sendNumbered sends the i-th message: its size and its contents follow from its
// number, its flow is i modulo four.
func sendNumbered(c *link.Conn, i int) {
	var turn link.Turn
	_ = c.Send(&turn, uint64(i), nil, []byte(numbered(i))) // a link that has ended delivers less
	turn.End()
}

func numbered(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", i*37%5000)) }

// requireNumbered wants whole messages, and each flow in order without gaps.
func requireNumbered(t *testing.T, messages []string) {
	t.Helper()
	next := [4]int{0, 1, 2, 3}
	for _, m := range messages {
		i := 0
		_, err := fmt.Sscanf(m, "%d", &i)
		require.NoError(t, err)
		require.Equal(t, numbered(i), m)
		require.Equal(t, next[i%4], i)
		next[i%4] += 4
	}
}

func TestALinkComesUpOverABadPath(t *testing.T) {
	linktest.Key(t)
	for name, path := range map[string]badPath{
		"30 % loss":   {loss: 0.3},
		"reordering":  {late: 0.5},
		"duplication": {again: 1},
		"MTU 1280":    {mtu: 1280},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := runPair(t, linktest.Options{})
				path.spoil(p.Paths)
				defer p.Paths.Watch(nil)
				var err error
				for range 20 { // the layer above dials again, too
					if err = p.dial(t, 0, 1); err == nil {
						return
					}
				}
				require.NoError(t, err)
			})
		})
	}
}
