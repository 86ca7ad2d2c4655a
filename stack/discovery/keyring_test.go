package discovery_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/discovery"
	"github.com/project-iris/iris/stack/discovery/discoverytest"
)

func TestNodesFindEachOtherThroughoutAChangeOfSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := secret("before"), secret("after")
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", before)
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", before)
		find := func(phase string) {
			a.forget()
			b.forget()
			time.Sleep(5 * time.Minute) // settled: both probe slowly
			_, bFound := a.foundAt(b.addr)
			_, aFound := b.foundAt(a.addr)
			require.True(t, aFound && bFound, phase)
			require.Empty(t, a.Counts().Refused, phase)
			require.Empty(t, b.Counts().Refused, phase)
		}
		for _, secrets := range [][][]byte{{before, after}, {after, before}, {after}} {
			require.NoError(t, a.SetSecrets(discovery.Mark{}, secrets))
			find("one has changed")
			require.NoError(t, b.SetSecrets(discovery.Mark{}, secrets))
			find("both have changed")
		}
		// Whoever has only the old secret is a stranger now.
		old := start(t, &n, at("10.0.0.3", 0), "10.0.0.0/29", before)
		a.forget()
		time.Sleep(5 * time.Minute)
		_, found := a.foundAt(old.addr)
		require.False(t, found)
		_, found = old.foundAt(a.addr)
		require.False(t, found)
		require.NotZero(t, a.Counts().Refused["mac"])
	})
}

func TestSecretsThatAreNoneChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n discoverytest.Net
		a := start(t, &n, at("10.0.0.1", 0), "10.0.0.0/29", secret("net"))
		require.ErrorContains(t, a.SetSecrets(discovery.Mark{}, nil), "no secret")
		require.ErrorContains(t, a.SetSecrets(discovery.Mark{}, [][]byte{secret("net"), []byte("short")}), "secret 2 has 5 bytes")
		b := start(t, &n, at("10.0.0.2", 0), "10.0.0.0/29", secret("net"))
		after(450 * time.Millisecond)
		requireFound(t, a, b)
		requireFound(t, b, a)
	})
}
