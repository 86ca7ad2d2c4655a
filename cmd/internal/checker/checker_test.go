package checker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGoodHistoryPasses(t *testing.T) {
	h := New()
	answered, lost := h.Requested(time.Second), h.Requested(time.Second)
	h.Executed(answered)
	h.Ended(answered, Answered, 0)
	h.Ended(lost, Lost, 0)
	h.Delivered(1, 2, "topic", 1)
	h.Delivered(1, 2, "topic", 5)
	h.Delivered(1, 3, "topic", 1)
	h.Delivered(4, 2, "topic", 1)
	h.TunnelSent(7, 1)
	h.TunnelSent(7, 2)
	h.TunnelReceived(7, 1)
	h.TunnelReceived(7, 2)
	h.TunnelClosed(7)
	require.NoError(t, h.Check())
	require.Equal(t, 1, h.Counts()["request answered"])
	require.Equal(t, 4, h.Counts()["delivered"])
}

func TestEveryViolationIsFound(t *testing.T) {
	for want, play := range map[string]func(*History){
		"executed 2 times": func(h *History) {
			r := h.Requested(time.Second)
			h.Executed(r)
			h.Executed(r)
			h.Ended(r, Answered, 0)
		},
		"executed and never sent":                    func(h *History) { h.Executed(99) },
		"never ended":                                func(h *History) { h.Requested(time.Second) },
		"ended as answered and was executed 0 times": func(h *History) { h.Ended(h.Requested(time.Second), Answered, 0) },
		"ended as no service and was executed 1 times": func(h *History) {
			r := h.Requested(time.Second)
			h.Executed(r)
			h.Ended(r, NoService, 0)
		},
		"ended as lost and as timeout": func(h *History) {
			r := h.Requested(time.Second)
			h.Ended(r, Lost, 0)
			h.Ended(r, Timeout, 0)
		},
		"without a typed outcome": func(h *History) { h.Ended(h.Requested(time.Second), Untyped, 0) },
		"got number 5 of sender 2 after number 5": func(h *History) {
			h.Delivered(1, 2, "t", 5)
			h.Delivered(1, 2, "t", 5)
		},
		"got number 4 of sender 2 after number 5": func(h *History) {
			h.Delivered(1, 2, "t", 5)
			h.Delivered(1, 2, "t", 4)
		},
		"delivered message 2 after message 0": func(h *History) {
			h.TunnelSent(1, 2)
			h.TunnelReceived(1, 2)
		},
		"delivered 1 messages, sent were 0": func(h *History) { h.TunnelReceived(1, 1) },
		"delivered 0 of 1 messages": func(h *History) {
			h.TunnelSent(1, 1)
			h.TunnelClosed(1)
		},
	} {
		h := New()
		play(h)
		require.ErrorContains(t, h.Check(), want)
	}
}

func TestLateOutcomeIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		late, inTime := h.Requested(time.Second), h.Requested(time.Second)
		time.Sleep(1100 * time.Millisecond)
		h.Ended(inTime, Timeout, 200*time.Millisecond)
		require.NoError(t, (&History{violations: h.violations, violated: h.violated}).Check())
		h.Ended(late, Timeout, 50*time.Millisecond)
		require.ErrorContains(t, h.Check(), "its deadline was 1s")
	})
}
