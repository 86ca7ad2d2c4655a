package overlay

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// golden are messages with the bytes that other nodes expect.
var golden = []struct {
	name string
	msg  message
	hex  string
}{
	{"ping", ping{0x0102}, "01 0000000000000102"},
	{"pong", pong{0x0102}, "02 0000000000000102"},
	{"find", find{7, link.ID{0: 0xaa, 31: 1}}, "03 00000007 aa" + strings.Repeat("00", 30) + "01"},
	{"found", found{7, []contactInfo{
		{link.ID{0: 0xaa, 31: 1}, 0, []netip.AddrPort{netip.MustParseAddrPort("127.0.71.1:4000")}},
		{link.ID{0: 0xbb, 31: 2}, 9, []netip.AddrPort{netip.MustParseAddrPort("[fe80::1]:1"), netip.MustParseAddrPort("10.0.0.7:65535")}},
	}}, "04 00000007 02" +
		"aa" + strings.Repeat("00", 30) + "01 00 01 04 7f004701 0fa0" +
		"bb" + strings.Repeat("00", 30) + "02 09 02 06 fe800000000000000000000000000001 0001 04 0a000007 ffff"},
	{"stances", stances{258, []stance{{demoGroup, true, false, 7, 2}, {Group{Kind: 9}, false, true, 0, 0}}}, "05 0000000000000102 0002" +
		"01 04 64656d6f 01 0000000000000007 00000002" + "09 00 02 0000000000000000 00000000"},
	{"replica", replica{258, []share{{demoGroup, true, true, false, []replicated{
		{link.ID{0: 0xaa}, netip.AddrPort{}, 7, 2},
		{link.ID{0: 0xbb}, netip.MustParseAddrPort("127.0.71.1:4000"), 8, 0},
	}}, {demoGroup, true, false, true, []replicated{
		{link.ID{0: 0xdd}, netip.MustParseAddrPort("127.0.71.2:4000"), 9, 1},
	}}, {Group{Kind: 2}, false, false, false, []replicated{}}}}, "06 0000000000000102 0003 01 04 64656d6f 03 0002" +
		"aa" + strings.Repeat("00", 31) + "00 0000000000000007 00000002" +
		"bb" + strings.Repeat("00", 31) + "04 7f004701 0fa0 0000000000000008 00000000" + "01 04 64656d6f 05 0001" +
		"dd" + strings.Repeat("00", 31) + "04 7f004702 0fa0 0000000000000009 00000001" + "02 00 00 0000"},
	{"view", view{258, true, true, Key{0: 0xcc}, []entry{{link.ID{0: 0xaa}, netip.MustParseAddrPort("127.0.71.1:4000"), 2}}},
		"07 0000000000000102 03 cc" + strings.Repeat("00", 31) + "0001 aa" + strings.Repeat("00", 31) + "04 7f004701 0fa0 00000002"},
	{"ack", ack{258}, "08 0000000000000102"},
	{"moved", moved{Key{0: 0xcc}, []contactInfo{}}, "09 cc" + strings.Repeat("00", 31) + "00"},
	{"release", release{}, "0a"},
	{"keep", keep{}, "0b"},
	{"leaving", leaving{}, "0c"},
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

const (
	someID  = "00000000000000000000000000000000000000000000000000000000000000aa"
	someSeq = "0000000000000001"
)

// hostile are messages that lie about what they hold.
var hostile = []string{
	"", "00", "0d", "ff",
	"04 00000000 ff", "04 00000000 11", "04 00000000 01",
	"04 00000000 01" + someID + "00 00" + strings.Repeat("00", 7),                // no address
	"04 00000000 01" + someID + "00 05" + strings.Repeat("04 7f000001 0001", 5),  // five
	"04 00000000 01" + someID + "00 01 05 7f000001 0001",                         // no such family
	"04 00000000 01" + someID + "00 01 00" + strings.Repeat("00", 7),             // no address, said so
	"04 00000000 01" + someID + "00 01 06 00000000000000000000ffff7f000001 0001", // IPv4 in IPv6
	"04 00000000 11" + strings.Repeat(someID+"00 01 04 7f000001 0001", 17),       // one too many
	"05" + someSeq + "ffff", "05" + someSeq + "0201", "05" + someSeq + "0001",
	"05" + someSeq + "0001 01 01 61 04" + someSeq + "00000001",     // an unknown flag
	"05" + someSeq + "0001 01 01 61 03" + someSeq + "00000000",     // gone, and watches
	"05" + someSeq + "0001 01 01 61 02" + someSeq + "00000001",     // gone, and hosts
	"05" + someSeq + "0001 01 01 61 00" + someSeq + "80000000",     // count
	"05" + someSeq + "0001 01 ff 61 00" + someSeq + "00000001",     // a name that is cut short
	"05" + someSeq + "0201" + strings.Repeat("00", 513*stanceSize), // one too many
	"06" + someSeq + "ffff", "06" + someSeq + "0001 01 00 00 0001" + someID + "00" + someSeq + "00000001", // records of what it does not keep
	"06" + someSeq + "0001 01 00 02 0000", "06" + someSeq + "0001 01 00 04 0000", "06" + someSeq + "0001 01 00 08 0000", "06" + someSeq + "0001 01 00 01 0201" + strings.Repeat("00", 513*replicaSize),
	"07" + someSeq + "04" + someID + "0000", "07" + someSeq + "00" + someID + "ffff", "07" + someSeq + "00" + someID + "0201" + strings.Repeat("00", 513*entrySize),
	"09" + someID + "ff",
	"dd ff ff ff ff", "c6 ff ff ff ff", "df ff ff ff ff",
}

func TestHostileMessagesAreRefused(t *testing.T) {
	for _, text := range hostile {
		_, err := parseMessage(goldenBytes(t, text))
		require.ErrorIs(t, err, errMalformed, "%.90s", text)
	}
	_, err := parseMessage(bytes.Repeat([]byte{typeFound}, maxControl+1))
	require.ErrorIs(t, err, errMalformed)
}

func TestLongestMessageFits(t *testing.T) {
	ipv6 := netip.MustParseAddrPort("[fe80::1]:1")
	var contacts []contactInfo
	for range maxFound {
		contacts = append(contacts, contactInfo{addrs: []netip.AddrPort{ipv6, ipv6, ipv6, ipv6}})
	}
	name := strings.Repeat("n", maxName)
	told := stances{list: make([]stance, maxStances)}
	for i := range told.list {
		told.list[i].group = Group{KindTopic, name}
	}
	records := make([]replicated, maxReplicas)
	for i := range records {
		records[i].addr = ipv6
	}
	kept := replica{list: []share{{Group{KindTopic, name}, true, false, false, records}}}
	for len(kept.list) < maxTold/(shareSize+maxName) {
		kept.list = append(kept.list, share{group: Group{KindTopic, name}})
	}
	shown := view{list: make([]entry, maxView)}
	for i := range shown.list {
		shown.list[i].addr = ipv6
	}
	for _, m := range []message{found{list: contacts}, moved{list: contacts}, told, kept, shown} {
		b := m.appendTo(nil)
		require.LessOrEqual(t, len(b), maxControl)
		_, err := parseMessage(b)
		require.NoError(t, err, "%T", m)
	}
	require.Len(t, told.appendTo(nil), maxControl)
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

// FuzzCore feeds a peer's bytes to a core: it must neither panic nor keep what a peer
// told that is gone.
func FuzzCore(f *testing.F) {
	for _, g := range golden {
		f.Add(goldenBytes(f, g.hex), []byte{typeLeaving})
		f.Add(goldenBytes(f, g.hex), ping{1}.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c := newCore(idOf(1))
		c.step(epoch, watch{demoGroup})
		c.step(epoch, announce{1, map[Group]uint32{otherGroup: 1}})
		c.step(epoch, linkUp{1, idOf(2), addrOf(2)})
		for _, msg := range [][]byte{first, second, first} {
			c.step(epoch, control{1, msg})
		}
		for passed := tickEvery; passed <= 2*time.Minute; passed += tickEvery {
			for _, e := range effectsOf[dial](c.step(epoch.Add(passed), tick{})) {
				c.step(epoch.Add(passed), dialled{e.id, false})
			}
		}
		require.Empty(t, c.peers)
		require.Len(t, c.groups, 2)
		for _, g := range c.groups {
			require.Equal(t, idOf(1), g.keeper)
			for _, r := range g.kept.members {
				require.Equal(t, idOf(1), r.node, "nobody else is there")
			}
		}
	})
}
