package overlay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// idOf makes an id that compares like n.
func idOf(n uint64) (id link.ID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func addrOf(host byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, host}), 4000)
}

var epoch = time.Unix(1_000_000, 0)

// effectsOf picks the effects of one type.
func effectsOf[E effect](effects []effect) []E {
	var picked []E
	for _, e := range effects {
		if e, ok := e.(E); ok {
			picked = append(picked, e)
		}
	}
	return picked
}

func TestLowerIDDialsAtOnceAndHigherLater(t *testing.T) {
	c := newCore(idOf(5))
	require.Equal(t, []effect{dial{idOf(9), addrOf(9)}}, c.step(epoch, offered{idOf(9), addrOf(9)}))
	require.Empty(t, c.step(epoch, offered{idOf(1), addrOf(1)}))
	require.Empty(t, c.step(epoch.Add(headStart-1), tick{}))
	require.Equal(t, []effect{dial{idOf(1), addrOf(1)}}, c.step(epoch.Add(headStart), tick{}))
}

func TestFailedDialsBackOffOverAllAddresses(t *testing.T) {
	c := newCore(idOf(1))
	now := epoch
	c.step(now, offered{idOf(2), addrOf(1)})
	c.step(now, offered{idOf(2), addrOf(2)})
	tried := map[netip.AddrPort]bool{}
	for failures := range 12 {
		effects := c.step(now, dialled{idOf(2), false})
		require.Empty(t, effects)
		pause := c.contacts[idOf(2)].next.Sub(now)
		nominal := min(minBackoff<<(failures+1), soonBackoff)
		require.GreaterOrEqual(t, pause, nominal/2)
		require.Less(t, pause, nominal)

		now = now.Add(pause)
		dials := effectsOf[dial](c.step(now, tick{}))
		require.Len(t, dials, 1)
		tried[dials[0].addr] = true
	}
	require.Len(t, tried, 2)
}

func TestCandidateThatIsSeenAgainIsDialledSoon(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, offered{idOf(2), addrOf(2)})
	c.step(epoch, dialled{idOf(2), false})
	c.contacts[idOf(2)].next = epoch.Add(soonBackoff)

	seen := epoch.Add(time.Second)
	c.step(seen, offered{idOf(2), addrOf(3)})
	require.Empty(t, c.step(seen.Add(minBackoff-1), tick{}))
	require.Equal(t, []effect{dial{idOf(2), addrOf(3)}}, c.step(seen.Add(minBackoff), tick{}), "where it was seen last")
}

func TestContactThatIsNoUseIsForgotten(t *testing.T) {
	c := newCore(idOf(1))
	now := epoch
	c.step(now, offered{idOf(2), addrOf(2)})
	for now.Before(epoch.Add(greetTime)) {
		require.Len(t, c.contacts, 1)
		if c.contacts[idOf(2)].dialling {
			c.step(now, dialled{idOf(2), false})
		}
		now = now.Add(tickEvery)
		c.step(now, tick{})
	}
	if c.dialling > 0 {
		c.step(now, dialled{idOf(2), false})
	}
	c.step(now.Add(2*reviewEvery), tick{})
	require.Empty(t, c.contacts)
	require.Empty(t, c.table)
	require.Zero(t, c.dialling)
}

func TestFloodOfCandidatesIsBounded(t *testing.T) {
	c := newCore(idOf(1))
	dials := 0
	for i := range uint64(5000) {
		dials += len(effectsOf[dial](c.step(epoch.Add(time.Duration(i)), offered{idOf(2 + i), addrOf(2)})))
	}
	require.Equal(t, maxDials, dials)
	require.Len(t, c.contacts, maxContacts)
	require.Contains(t, c.contacts, idOf(2+4999), "the newest stays")
	require.NotContains(t, c.contacts, idOf(2+100), "the oldest goes")

	c.step(epoch.Add(time.Second), dialled{idOf(2), false})
	require.Equal(t, maxDials, c.dialling, "the next one follows")
}

func TestUselessCandidatesAreIgnored(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, offered{idOf(1), addrOf(1)})
	for _, addr := range []string{"0.0.0.0:1", "224.0.0.1:1", "127.0.0.1:0", "[::]:1", "[ff02::1]:1"} {
		c.step(epoch, offered{idOf(2), netip.MustParseAddrPort(addr)})
	}
	c.step(epoch, offered{idOf(2), netip.AddrPort{}})
	require.Empty(t, c.contacts)
}
