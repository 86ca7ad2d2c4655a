package overlay

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// golden are messages with the bytes that other nodes expect.
var golden = []struct {
	name string
	msg  message
	hex  string
}{
	{"heartbeat", heartbeat{0x0102, 3}, "01 0000000000000102 0000000000000003"},
	{"peers", peerList{
		{link.ID{0: 0xaa, 31: 1}, []netip.AddrPort{netip.MustParseAddrPort("127.0.71.1:4000")}},
		{link.ID{0: 0xbb, 31: 2}, []netip.AddrPort{netip.MustParseAddrPort("[fe80::1]:1"), netip.MustParseAddrPort("10.0.0.7:65535")}},
	}, "02 0002" +
		"aa" + strings.Repeat("00", 30) + "01 01 04 7f004701 0fa0" +
		"bb" + strings.Repeat("00", 30) + "02 02 06 fe800000000000000000000000000001 0001 04 0a000007 ffff"},
	{"records", records{false, []record{{demoGroup, 7, 2}, {Group{Kind: 9}, 1, 0}}}, "03 00 0002" +
		"01 04 64656d6f 0000000000000007 00000002" + "09 00 0000000000000001 00000000"},
	{"synced", records{true, []record{}}, "03 01 0000"},
	{"ack", ack{258}, "04 0000000000000102"},
	{"leaving", leaving{}, "05"},
}

func goldenBytes(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

func TestMessagesHaveGoldenBytes(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			want := goldenBytes(t, g.hex)
			require.Equal(t, want, g.msg.appendTo(nil))
			got, err := parseMessage(want)
			require.NoError(t, err)
			require.Equal(t, g.msg, got)
		})
	}
}

func TestKeyHasGoldenBytes(t *testing.T) {
	require.Equal(t, "4d24cd28433eaed4", hex.EncodeToString(demo[:8]))
	require.NotEqual(t, demo, KeyOf(KindTopic, []byte("demo")))
}

func TestMessageCutAnywhereOrTooLongIsRefused(t *testing.T) {
	for _, g := range golden {
		whole := goldenBytes(t, g.hex)
		for n := range whole {
			_, err := parseMessage(whole[:n])
			require.ErrorIs(t, err, errMalformed, "%s cut at %d", g.name, n)
		}
		_, err := parseMessage(append(whole, 0))
		require.ErrorIs(t, err, errMalformed, "%s and a byte", g.name)
	}
}

// hostile are messages that lie about what they hold.
var hostile = []string{
	"", "00", "06", "ff",
	"02 ffff", "02 03e9", "02 0001",
	"02 0001" + strings.Repeat("00", 32) + "00" + strings.Repeat("00", 7),                // no address
	"02 0001" + strings.Repeat("00", 32) + "05" + strings.Repeat("04 7f000001 0001", 5),  // five
	"02 0001" + strings.Repeat("00", 32) + "01 05 7f000001 0001",                         // no such family
	"02 0001" + strings.Repeat("00", 32) + "01 06 00000000000000000000ffff7f000001 0001", // IPv4 in IPv6
	"03 00 ffff", "03 00 0201", "03 02 0000", "03 01 0001", // more than there is, synced 2
	"03 00 0001 01 01 61 0000000000000001 80000000",                                  // count
	"03 00 0001 01 ff 61 0000000000000001 00000001",                                  // a name that is cut short
	"03 00 0201" + strings.Repeat("00", 513*recordSize),                              // a record too many
	"02 03e9" + strings.Repeat(strings.Repeat("00", 32)+"01 04 7f000001 0001", 1001), // a peer too many
	"dd ff ff ff ff", "c6 ff ff ff ff", "df ff ff ff ff",
}

func TestHostileMessagesAreRefused(t *testing.T) {
	for _, text := range hostile {
		_, err := parseMessage(goldenBytes(t, text))
		require.ErrorIs(t, err, errMalformed, "%.60s", text)
	}
	_, err := parseMessage(bytes.Repeat([]byte{typePeers}, maxControl+1))
	require.ErrorIs(t, err, errMalformed)
}

func TestLongestMessageFits(t *testing.T) {
	list := make(peerList, maxPeers)
	for i := range list {
		for range maxAddrs {
			list[i].addrs = append(list[i].addrs, netip.MustParseAddrPort("[fe80::1]:1"))
		}
	}
	b := list.appendTo(nil)
	require.LessOrEqual(t, len(b), maxControl)
	_, err := parseMessage(b)
	require.NoError(t, err)

	var r records
	for range maxRecords {
		r.list = append(r.list, record{group: Group{KindTopic, strings.Repeat("n", maxName)}})
	}
	b = r.appendTo(nil)
	require.Len(t, b, maxControl)
	_, err = parseMessage(b)
	require.NoError(t, err)
}

func FuzzParseMessage(f *testing.F) {
	for _, g := range golden {
		f.Add(goldenBytes(f, g.hex))
	}
	for _, text := range hostile {
		f.Add(goldenBytes(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			require.ErrorIs(t, err, errMalformed)
			return
		}
		require.Equal(t, b, m.appendTo(nil), "there is one way to write a message")
	})
}

// FuzzCore feeds a peer's bytes to a core: it must neither panic nor keep a
// record of a peer that it has closed.
func FuzzCore(f *testing.F) {
	for _, g := range golden {
		f.Add(goldenBytes(f, g.hex), []byte{typeLeaving})
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c := newCore(idOf(1))
		c.step(epoch, linkUp{1, idOf(2), addrOf(2)})
		for _, msg := range [][]byte{first, second, first} {
			c.step(epoch, control{1, msg})
			if len(c.peers) == 0 {
				require.Empty(t, c.groups)
			}
		}
		for passed := tickEvery; passed <= silenceLimit; passed += tickEvery {
			c.step(epoch.Add(passed), tick{})
		}
		require.Empty(t, c.peers)
		require.Empty(t, c.groups)
	})
}
