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
		pause := c.candidates[idOf(2)].next.Sub(now)
		nominal := min(minBackoff<<failures, maxBackoff)
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
	c.candidates[idOf(2)].next = epoch.Add(maxBackoff)

	seen := epoch.Add(time.Second)
	c.step(seen, offered{idOf(2), addrOf(3)})
	require.Empty(t, c.step(seen.Add(minBackoff-1), tick{}))
	require.Equal(t, []effect{dial{idOf(2), addrOf(3)}}, c.step(seen.Add(minBackoff), tick{}), "where it was seen last")
}

func TestCandidateThatFailsForLongIsForgotten(t *testing.T) {
	c := newCore(idOf(1))
	now := epoch
	c.step(now, offered{idOf(2), addrOf(2)})
	for now.Before(epoch.Add(giveUpAfter)) {
		require.Len(t, c.candidates, 1)
		if c.candidates[idOf(2)].dialling {
			c.step(now, dialled{idOf(2), false})
		}
		now = now.Add(tickEvery)
		c.step(now, tick{})
	}
	if c.dialling > 0 {
		c.step(now, dialled{idOf(2), false})
	}
	c.step(now, tick{})
	require.Empty(t, c.candidates)
	require.Zero(t, c.dialling)
}

func TestFloodOfCandidatesIsBounded(t *testing.T) {
	c := newCore(idOf(1))
	dials := 0
	for i := range uint64(5000) {
		dials += len(effectsOf[dial](c.step(epoch.Add(time.Duration(i)), offered{idOf(2 + i), addrOf(2)})))
	}
	require.Equal(t, maxDials, dials)
	require.Len(t, c.candidates, maxCandidates)
	require.Contains(t, c.candidates, idOf(2+4999), "the newest stays")
	require.NotContains(t, c.candidates, idOf(2+100), "the oldest goes")

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
	require.Empty(t, c.candidates)
}

func TestGarbageEndsTheLinkAndThePeerIsLeftAlone(t *testing.T) {
	version := func(v uint64) []byte { return records{list: []record{{demoGroup, v, 1}}}.appendTo(nil) }
	for name, messages := range map[string][][]byte{
		"empty":                     {{}},
		"unknown type":              {{9}},
		"trailing byte":             {{typeLeaving, 0}},
		"older version of a record": {version(5), version(4)},
		"same version twice":        {version(5), version(5)},
		"synced twice":              {records{synced: true}.appendTo(nil), records{synced: true}.appendTo(nil)},
		"records after leaving":     {leaving{}.appendTo(nil), version(1)},
		"leaving twice":             {leaving{}.appendTo(nil), leaving{}.appendTo(nil)},
		"ack of what was not sent":  {ack{9}.appendTo(nil)},
		"ack of nothing":            {ack{0}.appendTo(nil)},
		"heartbeat twice":           {heartbeat{1, 0}.appendTo(nil), heartbeat{1, 0}.appendTo(nil)},
		"echo of what was not sent": {heartbeat{1, 1}.appendTo(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(idOf(1))
			c.step(epoch, watch{demo})
			c.step(epoch, linkUp{1, idOf(2), addrOf(2)})
			var effects []effect
			for _, msg := range messages {
				require.Empty(t, effectsOf[closeLink](effects))
				effects = c.step(epoch, control{1, msg})
			}
			require.Equal(t, []closeLink{{1, closeProtocol}}, effectsOf[closeLink](effects))
			require.Equal(t, []lost{{idOf(2)}}, effectsOf[lost](effects))
			require.Empty(t, c.groups)

			c.step(epoch, linkDown{1})
			c.step(epoch, offered{idOf(2), addrOf(2)})
			soon := epoch.Add(banTime - 1)
			require.Empty(t, c.step(soon, tick{}), "not dialled")
			require.Equal(t, []effect{closeLink{2, closeProtocol}}, c.step(soon, linkUp{2, idOf(2), addrOf(2)}), "not accepted")
			require.Len(t, effectsOf[dial](c.step(epoch.Add(banTime), tick{})), 1, "forgiven")
		})
	}
}

func TestNewLinkOfAPeerReplacesItsOldOne(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, watch{demo})
	c.step(epoch, linkUp{1, idOf(2), addrOf(2)})
	c.step(epoch, control{1, records{true, []record{{demoGroup, 5, 1}}}.appendTo(nil)})

	effects := c.step(epoch, linkUp{2, idOf(2), addrOf(2)})
	require.Equal(t, []pushView{{demo, nil}}, withoutEmpty(effectsOf[pushView](effects)))
	require.Equal(t, []lost{{idOf(2)}}, effectsOf[lost](effects))

	require.Empty(t, c.step(epoch, control{1, []byte("late")}), "what comes on the old link is nobody's")
	require.Empty(t, c.step(epoch, linkDown{1}))
	effects = c.step(epoch, control{2, records{true, []record{{demoGroup, 1, 3}}}.appendTo(nil)})
	require.Equal(t, []pushView{{demo, []Member{{idOf(2), 3}}}}, effectsOf[pushView](effects))
}

// withoutEmpty makes empty views nil, so that they compare.
func withoutEmpty(views []pushView) []pushView {
	for i := range views {
		if len(views[i].members) == 0 {
			views[i].members = nil
		}
	}
	return views
}

func TestSlowPeerDoesNotLetAnnouncementsPileUp(t *testing.T) {
	c := newCore(idOf(1))
	c.step(epoch, linkUp{1, idOf(2), addrOf(2)})
	sent, batch := 0, uint64(0)
	for !c.busy() {
		batch++
		sent += len(effectsOf[sendControl](c.step(epoch, announce{batch, map[Group]uint32{demoGroup: uint32(batch)}})))
	}
	require.Equal(t, uint64(maxAnnouncing), batch)
	require.Equal(t, maxUnacked-1, sent, "the snapshot is the first that waits for its ack")
	require.Len(t, c.peers[0].outbox.owed, 1, "one key is owed once")

	effects := c.step(epoch, control{1, ack{maxUnacked}.appendTo(nil)})
	require.Len(t, effectsOf[confirmed](effects), maxUnacked-1)
	effects = c.step(epoch, control{1, ack{maxUnacked + 1}.appendTo(nil)})
	require.Len(t, effectsOf[confirmed](effects), maxAnnouncing-maxUnacked+1)
	require.False(t, c.busy())
}
