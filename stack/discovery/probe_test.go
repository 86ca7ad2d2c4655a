package discovery

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is a probe whose bytes are known.
func sample() (probe, *signer) {
	p := probe{kind: kindProbe}
	for i := range p.nonce {
		p.nonce[i] = byte(0x10 + i)
	}
	for i := range p.id {
		p.id[i] = byte(0x80 + i)
	}
	return p, newSigner([]byte("0123456789abcdef0123456789abcdef"))
}

const (
	goldenBody = "" +
		"07495253" + "01" + "01" + "0000" +
		"101112131415161718191a1b1c1d1e1f2021222324252627" +
		"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
	// goldenMAC is what `openssl mac -digest SHA256 -macopt key:0123456789abcdef0123456789abcdef HMAC` says of goldenBody.
	goldenMAC = "7475dff84e87c1bee944d017c4d03573a8f47d70991d0b1ead61978258b71643"
)

func TestProbeHasItsGoldenBytes(t *testing.T) {
	p, signer := sample()
	require.Equal(t, goldenBody+goldenMAC, hex.EncodeToString(appendProbe(nil, p, signer)))

	p.kind = kindAnswer
	answer := appendProbe([]byte("prefix"), p, signer)[len("prefix"):]
	require.Len(t, answer, Size)
	require.EqualValues(t, 2, answer[offsetKind])
	require.NotContains(t, hex.EncodeToString(answer), goldenMAC, "the MAC covers the kind")
}

func TestProbeIsReadBackAsWritten(t *testing.T) {
	p, signer := sample()
	b := appendProbe(nil, p, signer)
	parsed, refused := parseProbe(b)
	require.Equal(t, accepted, refused)
	require.Equal(t, p, parsed)
	require.Less(t, b[0], byte(0x40), "QUIC would take it")
}

func TestKeyringNamesTheSigner(t *testing.T) {
	keys := newKeyring([][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)})
	p, stranger := sample()
	require.Same(t, keys[1], keys.signerOf(appendProbe(nil, p, newSigner(bytes.Repeat([]byte{2}, 32)))))
	require.Nil(t, keys.signerOf(appendProbe(nil, p, stranger)))
}

func TestUnknownVersionAndKindAreRefusedBeforeTheMAC(t *testing.T) {
	p, signer := sample()
	for offset, want := range map[int]reason{0: refusedMagic, 3: refusedMagic, offsetVersion: refusedVersion, offsetKind: refusedKind} {
		b := appendProbe(nil, p, signer)
		b[offset] = 9
		_, refused := parseProbe(b)
		require.Equal(t, want, refused)
	}
}
