package patterns

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/project-iris/iris/stack/link"
)

func TestNothingIsHeldWhereAllFlowsTogetherHoldTooMuch(t *testing.T) {
	n, err := New(Config{Overlay: deafOverlay{}, Seed: 1})
	require.NoError(t, err)
	g := n.openTopic([]byte("t"))
	n.join(g, &party{sink: deafSink{}})
	c := cast{kind: kindEvent, hops: 1, flow: 1, sequence: 3, previous: 2, tree: true, origin: link.ID{1}, Message: Message{Name: []byte("t")}}
	late := c
	require.Nil(t, n.hear(g, &late, 0), "2 is missing")
	n.flows.heldBytes += maxHeldTotal
	other := c
	other.flow = 2
	require.NotNil(t, n.hear(g, &other, 0))
	require.EqualValues(t, 3, other.sequence)
	next := c
	next.sequence, next.previous = 4, 3
	h := n.hear(g, &next, 0)
	require.NotNil(t, h)
	require.EqualValues(t, 3, next.sequence, "in order")
	require.EqualValues(t, 4, n.release(h, 0).sequence)
	require.Equal(t, maxHeldTotal, n.flows.heldBytes)
	require.Empty(t, n.flows.holding)
}

func TestFlowsThatAreRememberedAreBounded(t *testing.T) {
	f, g := newFlows(), &group{}
	for i := range uint32(maxHeard + 10) {
		f.of(g, link.ID{}, i, 0)
		f.of(g, link.ID{}, 0, 0)
	}
	require.Len(t, f.byKey, maxHeard)
	require.Equal(t, maxHeard, f.order.Len())
	require.NotNil(t, f.byKey[flowKey{flow: 0}], "in use")
	require.Nil(t, f.byKey[flowKey{flow: 1}], "longest silent")
	f.of(g, link.ID{}, 1, idleAfter)
	require.Len(t, f.byKey, 1, "the others are silent for long")
	require.Equal(t, f.byKey[flowKey{flow: 1}].Value, g.heard, "and the one at hand is forgotten with them")
}
