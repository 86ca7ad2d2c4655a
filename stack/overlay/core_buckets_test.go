package overlay

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/project-iris/iris/stack/link"
	"github.com/stretchr/testify/require"
)

// tell has peer 2 tell the core of nodes.
func (r *rig) tell(infos ...contactInfo) (effects []effect) {
	for len(infos) > 0 {
		n := min(len(infos), maxFound)
		effects = append(effects, r.hear(idOf(2), found{0, infos[:n]})...)
		infos = infos[n:]
	}
	return effects
}

// In the bucket of these ids there is nobody else.
func inBucket(n int, i uint64) link.ID { return by(idOf(1), 1<<(63-n)+i<<8) }

func TestBucketKeepsTheNodesThatWereSeenLast(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2))
	for i := range uint64(bucketSize) {
		info := infoOf(inBucket(5, i))
		info.age = uint8(10 + i)
		r.tell(info)
	}
	require.Len(t, r.c.bucket(5), bucketSize)

	old := infoOf(inBucket(5, 100))
	old.age = 200
	r.tell(old)
	require.NotContains(t, r.c.contacts, old.id, "who was seen before all others")
	fresh := infoOf(inBucket(5, 101))
	r.tell(fresh)
	require.Contains(t, r.c.contacts, fresh.id)
	require.NotContains(t, r.c.contacts, inBucket(5, bucketSize-1), "the oldest goes")
	require.Len(t, r.c.bucket(5), bucketSize)
	r.tell(old)
	require.NotContains(t, r.c.contacts, old.id)

	r.tell(infoOf(inBucket(6, 1)))
	require.Len(t, r.c.bucket(6), 1, "another bucket has room")
}

func TestNodeOfAFullBucketThatFailsMakesRoom(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2))
	for i := range uint64(bucketSize) {
		r.tell(infoOf(inBucket(5, i)))
	}
	bad := inBucket(5, 3)
	r.step(reach{bad})
	require.NotNil(t, r.c.contacts[bad].awaited)
	r.step(dialled{bad, false})
	old := infoOf(inBucket(5, 100))
	old.age = 200
	r.tell(old)
	require.NotContains(t, r.c.contacts, bad)
	require.Contains(t, r.c.contacts, old.id)
	require.Len(t, r.c.bucket(5), bucketSize)
}

func TestLinksAndWantedContactsStayInAFullBucket(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2), inBucket(5, 900))
	r.step(reach{inBucket(5, 901)}) // nobody knows it
	r.tell(infoOf(inBucket(5, 902)))
	r.step(reach{inBucket(5, 902)})
	for i := range uint64(1000) {
		r.now = r.now.Add(time.Second / 1000)
		r.tell(infoOf(inBucket(5, i)))
	}
	require.Contains(t, r.c.contacts, inBucket(5, 900))
	require.Contains(t, r.c.contacts, inBucket(5, 902))
	require.NotContains(t, r.c.contacts, inBucket(5, 901))
	require.Len(t, r.c.bucket(5), bucketSize+2)
}

func TestFloodOfToldContactsIsBounded(t *testing.T) {
	r := newRig(t, idOf(1))
	r.link(idOf(2))
	rng := rand.New(rand.NewPCG(1, 0))
	var dials []dial
	var until []time.Time // they fail
	for range 10_000 {
		var id link.ID
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 { // many of them near this node
			id = within(r.c.self, rng.IntN(64), id)
		}
		r.now = r.now.Add(time.Millisecond)
		effects := append(r.tell(infoOf(id)), r.step(tick{})...)
		for ; len(dials) > 0 && r.now.After(until[0]); dials, until = dials[1:], until[1:] {
			effects = append(effects, r.step(dialled{dials[0].id, false})...)
		}
		for _, d := range effectsOf[dial](effects) {
			dials, until = append(dials, d), append(until, r.now.Add(dialTimeout))
		}
		require.LessOrEqual(t, r.c.dialling, maxDials)
		require.Len(t, r.c.contacts, len(r.c.table))
	}
	require.LessOrEqual(t, len(r.c.table), maxContacts)
	for n := range 256 {
		idle := 0
		for _, k := range r.c.bucket(n) {
			if k.peer == nil && !k.wanted && !k.dialling && k.awaited == nil {
				idle++
			}
		}
		require.LessOrEqual(t, idle, bucketSize+closePeers, "bucket %d", n)
	}
}

func TestTableIsSortedAndBucketsAreItsParts(t *testing.T) {
	r := newRig(t, idOf(1))
	rng := rand.New(rand.NewPCG(1, 0))
	for i := range uint64(500) {
		r.step(offered{by(idOf(1), 1+rng.Uint64()>>rng.IntN(64)), addrOf(byte(1 + i%200))})
	}
	total := 0
	for n := range 256 {
		for _, k := range r.c.bucket(n) {
			require.Equal(t, n, prefix(r.c.self, k.id))
			total++
		}
	}
	require.Equal(t, len(r.c.table), total)
	for i, k := range r.c.table[1:] {
		require.Negative(t, closer(r.c.self, r.c.table[i].id, k.id))
	}
	near := r.c.nearest(link.ID(demo), 10, func(*contact) bool { return true })
	require.Len(t, near, 10)
	for _, k := range r.c.table {
		require.True(t, closer(link.ID(demo), near[9].id, k.id) <= 0 || contains(near, k))
	}
}

func contains(list []*contact, k *contact) bool {
	for _, o := range list {
		if o == k {
			return true
		}
	}
	return false
}
