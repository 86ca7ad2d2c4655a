package main

import "strings"

// A workload is what one case does.
type workload struct {
	Name   string  `json:"name"`
	Size   int     `json:"size"`      // bytes of request and reply
	Flight int     `json:"in_flight"` // requests in flight at once
	Cross  bool    `json:"cross"`     // client and service on different nodes
	Target float64 `json:"target"`    // ratio to reach: of p50 with one in flight (at most), of the rate otherwise (at least)
}

// cases are the rows of the design's table of numbers to reach.
func cases(only string) []workload {
	all := []workload{
		{Name: "request across, 64 B, one at a time", Size: 64, Flight: 1, Cross: true, Target: 0.9},
		{Name: "request across, 64 B, 64 in flight", Size: 64, Flight: 64, Cross: true, Target: 2},
		{Name: "request across, 1 KiB, 64 in flight", Size: 1 << 10, Flight: 64, Cross: true, Target: 1.5},
		{Name: "request across, 64 KiB, 64 in flight", Size: 64 << 10, Flight: 64, Cross: true, Target: 0.9},
		{Name: "request local, 64 B, one at a time", Size: 64, Flight: 1, Target: 0.6},
		{Name: "request local, 64 B, 64 in flight", Size: 64, Flight: 64, Target: 2},
	}
	var chosen []workload
	for _, c := range all {
		if strings.Contains(c.Name, only) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}
