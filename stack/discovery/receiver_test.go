package discovery

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	testSecret = bytes.Repeat([]byte{7}, 32)
	testKey    = bytes.Repeat([]byte{8}, 32)
	testEpoch  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	testAddr   = netip.MustParseAddrPort("10.0.0.2:23550")
)

func testReceiver() *receiver {
	return newReceiver([32]byte{1}, [][]byte{bytes.Repeat([]byte{6}, 32), testSecret}, newChallenge(testKey, testEpoch))
}

// answerFrom is an answer of the node {2} to the probe that went to addr at now.
func answerFrom(addr netip.AddrPort, now time.Time) []byte {
	n := newChallenge(testKey, testEpoch).nonce(now, addr)
	return appendProbe(nil, probe{kind: kindAnswer, nonce: n, id: [32]byte{2}}, newSigner(testSecret))
}

func TestAnswerCountsOnlyFromWhereWasProbedAndNotForLong(t *testing.T) {
	for _, row := range []struct {
		name  string
		addr  netip.AddrPort
		later time.Duration
		want  reason
	}{
		{"at once", testAddr, 0, accepted},
		{"a second later", testAddr, time.Second, accepted},
		{"in the next window", testAddr, challengeWindow, accepted},
		{"too late", testAddr, 2 * challengeWindow, refusedStray},
		{"a day late", testAddr, 24 * time.Hour, refusedStray},
		{"from another address", netip.MustParseAddrPort("10.0.0.3:23550"), 0, refusedStray},
		{"from another port", netip.MustParseAddrPort("10.0.0.2:23551"), 0, refusedStray},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := testEpoch.Add(time.Hour)
			v := testReceiver().judge(now.Add(row.later), answerFrom(testAddr, now), row.addr)
			require.Equal(t, row.want, v.refused)
			require.Equal(t, row.want == accepted, v.report)
			require.Nil(t, v.answer)
		})
	}
}

func TestAnswerToAnotherProcessIsStray(t *testing.T) {
	now := testEpoch.Add(time.Hour)
	n := newChallenge(bytes.Repeat([]byte{9}, 32), testEpoch).nonce(now, testAddr)
	b := appendProbe(nil, probe{kind: kindAnswer, nonce: n, id: [32]byte{2}}, newSigner(testSecret))
	require.Equal(t, refusedStray, testReceiver().judge(now, b, testAddr).refused)
}

func TestAnswerEchoesTheNonceUnderTheSecretOfTheProbe(t *testing.T) {
	p := probe{kind: kindProbe, nonce: nonce{1, 2, 3}, id: [32]byte{2}}
	v := testReceiver().judge(testEpoch, appendProbe(nil, p, newSigner(testSecret)), testAddr)
	require.Equal(t, appendProbe(nil, probe{kind: kindAnswer, nonce: p.nonce, id: [32]byte{1}}, newSigner(testSecret)), v.answer)
	require.Equal(t, p.id, v.id)
	require.True(t, v.report)
	require.True(t, v.fresh)
}

// FuzzJudge: no datagram makes more than one of the same size go out, and
// what strangers send is turned away. As a call, it sends nobody but to a node's port of the interface's subnets.
func FuzzJudge(f *testing.F) {
	p := probe{kind: kindProbe, nonce: nonce{1}, id: [32]byte{2}}
	good := appendProbe(nil, p, newSigner(testSecret))
	foreign := appendProbe(nil, p, newSigner(testKey))
	f.Add(good)
	f.Add(foreign)
	f.Add(callFrom(testAddr))
	f.Add(appendProbe(nil, probe{kind: kindCall, nonce: callOf(testAddr), id: [32]byte{2}}, newSigner(testKey)))
	f.Add(answerFrom(testAddr, testEpoch))
	f.Add([]byte{})
	f.Add(good[:Size-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add(bytes.Repeat([]byte{0xff}, 1500))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := testReceiver()
		kept := bytes.Clone(b)
		v := r.judge(testEpoch, b, testAddr)
		addr, refused := testListener().judge(testEpoch, b, testLocal)
		require.Equal(t, kept, b, "the datagram was changed")
		if refused == accepted {
			require.Equal(t, refusedKind, v.refused, "it is both")
			require.True(t, netip.MustParsePrefix("10.0.0.0/20").Contains(addr.Addr()))
			require.Contains(t, []uint16{23550, 23551, 23552, 23553, 23554}, addr.Port())
			require.NotNil(t, newKeyring([][]byte{testSecret}).signerOf(b))
		} else {
			require.Zero(t, addr)
		}
		if v.refused != accepted {
			require.Equal(t, verdict{refused: v.refused}, v)
			return
		}
		require.Len(t, b, Size)
		require.Same(t, r.keys[1], r.keys.signerOf(b))
		if v.answer != nil {
			require.Len(t, v.answer, len(b))
			require.EqualValues(t, kindAnswer, v.answer[offsetKind])
		}
	})
}

func TestForgedProbeCostsNoAllocation(t *testing.T) {
	r := testReceiver()
	forged := appendProbe(nil, probe{kind: kindProbe, nonce: nonce{1}, id: [32]byte{2}}, newSigner(testKey))
	require.Equal(t, refusedMAC, r.judge(testEpoch, forged, testAddr).refused)
	require.Zero(t, testing.AllocsPerRun(100, func() { r.judge(testEpoch, forged, testAddr) }))
}

// BenchmarkForgedProbe is the cost of one datagram of a flood under a wrong
// key, with one secret in use.
func BenchmarkForgedProbe(b *testing.B) {
	r := newReceiver([32]byte{1}, [][]byte{testSecret}, newChallenge(testKey, testEpoch))
	forged := appendProbe(nil, probe{kind: kindProbe, nonce: nonce{1}, id: [32]byte{2}}, newSigner(testKey))
	b.ReportAllocs()
	for b.Loop() {
		if v := r.judge(testEpoch, forged, testAddr); v.refused != refusedMAC {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkAnsweredProbe is the cost of a good probe with its answer.
func BenchmarkAnsweredProbe(b *testing.B) {
	r := newReceiver([32]byte{1}, [][]byte{testSecret}, newChallenge(testKey, testEpoch))
	good := appendProbe(nil, probe{kind: kindProbe, nonce: nonce{1}, id: [32]byte{2}}, newSigner(testSecret))
	now := testEpoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(answerInterval)
		if v := r.judge(now, good, testAddr); v.answer == nil {
			b.Fatal("not answered")
		}
	}
}
