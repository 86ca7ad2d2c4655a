package discovery

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var testLocal = netip.MustParseAddr("fe80::7%eth0")

func testListener() *listener {
	l := newListener([32]byte{1})
	l.keys = newKeyring([][]byte{bytes.Repeat([]byte{6}, 32), testSecret})
	l.callers = []Caller{
		{"eth0", netip.MustParsePrefix("10.0.0.1/20")},
		{"eth1", netip.MustParsePrefix("10.9.0.1/24")},
	}
	return l
}

// callFrom is a call of the node {2} at addr.
func callFrom(addr netip.AddrPort) []byte {
	return appendProbe(nil, probe{kind: kindCall, nonce: callOf(addr), id: [32]byte{2}}, newSigner(testSecret))
}

const (
	goldenCall = "" +
		"07495253" + "01" + "03" + "0000" +
		"0a00070c" + "5c01" + "161718191a1b1c1d1e1f2021222324252627" +
		"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
	// goldenCallMAC is what openssl says of goldenCall (see goldenMAC).
	goldenCallMAC = "4cee058d8f6529b7728b7fb7fc25af7083cd612544625d169a0b6eea283ff44c"
)

func TestCallHasItsGoldenBytes(t *testing.T) {
	p, signer := sample()
	addr := netip.MustParseAddrPort("10.0.7.12:23553")
	call := callOf(addr)
	require.NotEqual(t, callOf(addr), call, "no two are the same")
	copy(call[6:], p.nonce[6:])
	p.kind, p.nonce = kindCall, call
	b := appendProbe(nil, p, signer)
	require.Equal(t, goldenCall+goldenCallMAC, hex.EncodeToString(b))
	require.Len(t, b, Size)
	parsed, refused := parseProbe(b)
	require.Equal(t, accepted, refused)
	require.Equal(t, p, parsed)
	require.Equal(t, addr, parsed.nonce.caller())
}

func TestCallsAreJudged(t *testing.T) {
	good := callFrom(testAddr)
	forged := bytes.Clone(good)
	forged[offsetNonce+3]++ // another address of the subnet
	own := appendProbe(nil, probe{kind: kindCall, nonce: callOf(testAddr), id: [32]byte{1}}, newSigner(testSecret))
	asProbe := appendProbe(nil, probe{kind: kindProbe, nonce: callOf(testAddr), id: [32]byte{2}}, newSigner(testSecret))
	at := func(addr string) []byte { return callFrom(netip.MustParseAddrPort(addr)) }
	for _, row := range []struct {
		name string
		b    []byte
		from string
		want reason
	}{
		{"good", good, "fe80::7%eth0", accepted},
		{"last port", at("10.0.15.254:23554"), "fe80::7%eth0", accepted},
		{"cut short", good[:Size-1], "fe80::7%eth0", refusedSize},
		{"other address", forged, "fe80::7%eth0", refusedMAC},
		{"own", own, "fe80::7%eth0", refusedSelf},
		{"a probe", asProbe, "fe80::7%eth0", refusedKind},
		{"an answer", answerFrom(testAddr, testEpoch), "fe80::7%eth0", refusedKind},
		{"not of the subnet", at("10.0.16.1:23550"), "fe80::7%eth0", refusedOutside},
		{"of another interface", at("10.9.0.2:23550"), "fe80::7%eth0", refusedOutside},
		{"from another interface", good, "fe80::7%eth1", refusedOutside},
		{"from an unknown interface", good, "fe80::7%eth2", refusedOutside},
		{"port below", at("10.0.0.2:23549"), "fe80::7%eth0", refusedOutside},
		{"port above", at("10.0.0.2:23555"), "fe80::7%eth0", refusedOutside},
		{"routed", good, "2001:db8::1", refusedOutside},
	} {
		t.Run(row.name, func(t *testing.T) {
			addr, refused := testListener().judge(testEpoch, row.b, netip.MustParseAddr(row.from))
			require.Equal(t, row.want, refused)
			require.Equal(t, row.want == accepted, addr.IsValid())
		})
	}
	require.Equal(t, refusedKind, testReceiver().judge(testEpoch, good, testAddr).refused, "on the socket of probes")
}

func TestReplayedCallsAreFollowedAtABoundedRate(t *testing.T) {
	l := testListener()
	one, all := 0, 0
	again := callFrom(testAddr)
	for i := range 10_000 { // in ten seconds
		now := testEpoch.Add(time.Duration(i) * time.Millisecond)
		if _, refused := l.judge(now, again, testLocal); refused == accepted {
			one++
		}
	}
	require.Equal(t, 10, one)
	for i := range 10_000 {
		now := testEpoch.Add(time.Minute + time.Duration(i)*time.Millisecond)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i>>8) & 15, byte(i)}), FirstPort+uint16(i>>12))
		if _, refused := l.judge(now, callFrom(addr), testLocal); refused == accepted {
			all++
		} else {
			require.Equal(t, refusedRate, refused)
		}
	}
	require.InDelta(t, calledBurst+10*int(time.Second/calledInterval), all, 2)
}

func TestForgedCallCostsNoAllocation(t *testing.T) {
	l := testListener()
	forged := appendProbe(nil, probe{kind: kindCall, nonce: callOf(testAddr), id: [32]byte{2}}, newSigner(testKey))
	require.Zero(t, testing.AllocsPerRun(100, func() { l.judge(testEpoch, forged, testLocal) }))
}

func TestCallersWaitInABoundedQueue(t *testing.T) {
	s := newSearch(testEpoch, newSweep(nil, nil))
	for i := range 2 * maxCalled {
		s.heard(netip.AddrPortFrom(testAddr.Addr(), uint16(i)))
		s.heard(netip.AddrPortFrom(testAddr.Addr(), uint16(0)))
	}
	require.Len(t, s.called, maxCalled)
	s.know([]netip.AddrPort{netip.AddrPortFrom(testAddr.Addr(), 0)})
	require.EqualValues(t, 1, s.step(testEpoch).target.Port(), "who became a peer needs no probe")
}
