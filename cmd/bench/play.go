package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// warmUp is how long a client runs before what it measures counts.
const warmUp = 300 * time.Millisecond

// play makes this process what role says.
func play(_ context.Context, role, spec string, args []string) error {
	switch role {
	case "nats-server":
		return runNATSServer(spec)
	case "node":
		return runIrisNode(spec, args)
	}
	var t task
	if err := json.Unmarshal([]byte(spec), &t); err != nil {
		return err
	}
	stop, err := startProfile(t.Profile)
	if err != nil {
		return err
	}
	defer stop()
	if role == "service" {
		if t.System == "iris" {
			return irisService(t.Port)
		}
		return natsService(t.Port)
	}
	return playClient(t)
}

func playClient(t task) error {
	attach := natsRequester
	if t.System == "iris" {
		attach = irisRequester
	}
	request, done, err := attach(t.Port)
	if err != nil {
		return err
	}
	defer done()
	r, err := closedLoop(request, t.Workload, t.Time)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// closedLoop keeps a number of requests in flight for a time and checks every reply.
func closedLoop(request func([]byte) ([]byte, error), c workload, d time.Duration) (result, error) {
	payload := bytes.Repeat([]byte{'x'}, c.Size)
	began := time.Now()
	counts, end := began.Add(warmUp), began.Add(warmUp+d)
	took := make([][]time.Duration, c.Flight)
	errs := make([]error, c.Flight)
	var wg sync.WaitGroup
	for i := range c.Flight {
		wg.Go(func() {
			for {
				sent := time.Now()
				reply, err := request(payload)
				now := time.Now()
				if err == nil && !bytes.Equal(reply, payload) {
					err = errors.New("the reply is not the request")
				}
				if err != nil {
					errs[i] = err
					return
				}
				if now.After(end) {
					return
				}
				if sent.After(counts) {
					took[i] = append(took[i], now.Sub(sent))
				}
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return result{}, errors.Join(err, fmt.Errorf("%d requests were answered", len(all)))
	}
	slices.Sort(all)
	return result{P50: all[len(all)/2], P99: all[len(all)*99/100], Rate: float64(len(all)) / d.Seconds()}, nil
}

// startProfile writes a CPU profile to file until stop; it does nothing for an empty name.
func startProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}, nil
}
