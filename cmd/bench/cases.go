package main

import "strings"

// The kinds of workload.
const (
	request = "request" // closed loop of requests and replies
	publish = "publish" // events as fast as they go, to a number of subscribers
	cast    = "cast"    // broadcasts as fast as they go, to a number of members; in NATS a subject with subscribers
	stream  = "stream"  // one tunnel; in NATS a subject with one subscriber
)

// A workload is what one case does.
type workload struct {
	Name   string  `json:"name"`
	Kind   string  `json:"kind"`
	Size   int     `json:"size"`      // bytes of a message
	Flight int     `json:"in_flight"` // requests in flight at once, or subscribers
	Cross  bool    `json:"cross"`     // client and service on different nodes
	Target float64 `json:"target"`    // ratio to reach: of p50 with one request in flight (at most), of the rate otherwise (at least)
}

// latency tells whether the case is about the latency of a request by itself.
func (w workload) latency() bool { return w.Kind == request && w.Flight == 1 }

// cases are the rows of the design's table of numbers to reach.
func cases(only string) []workload {
	all := []workload{
		{"request across, 64 B, one at a time", request, 64, 1, true, 0.9},
		{"request across, 64 B, 64 in flight", request, 64, 64, true, 2},
		{"request across, 1 KiB, 64 in flight", request, 1 << 10, 64, true, 1.5},
		{"request across, 64 KiB, 64 in flight", request, 64 << 10, 64, true, 0.9},
		{"request local, 64 B, one at a time", request, 64, 1, false, 0.6},
		{"request local, 64 B, 64 in flight", request, 64, 64, false, 2},
		{"publish across, 128 B, 1 subscriber", publish, 128, 1, true, 2.5},
		{"publish across, 1 KiB, 1 subscriber", publish, 1 << 10, 1, true, 0.9},
		{"publish across, 128 B, 4 subscribers", publish, 128, 4, true, 2.5},
		{"broadcast across, 128 B, 4 members", cast, 128, 4, true, 2.5},
		{"tunnel across, 64 KiB messages", stream, 64 << 10, 1, true, 0.85},
	}
	var chosen []workload
	for _, c := range all {
		if strings.Contains(c.Name, only) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}
