package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/project-iris/iris/cmd/internal/load"
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

// A client is what both systems can do.
type client interface {
	request(name string, message []byte) ([]byte, error)
	publish(name string, message []byte) error
	broadcast(name string, message []byte) error
	// stream sends messages while more says so, and returns when all are delivered
	// or on their way.
	stream(message []byte, more func() bool) (sent int, err error)
	close()
}

// The names under which the service process serves.
const (
	echoName  = "echo"  // requests, answered with themselves
	tallyName = "tally" // requests, answered with what has arrived since the last one
	topicName = "topic" // events; each subscriber has a connection of its own
	castName  = "cast"  // broadcasts, to four members
	sinkName  = "sink"  // streams
)

func playClient(t task) error {
	attach := attachNATS
	if t.System == "iris" {
		attach = attachIris
	}
	c, err := attach(t.Port)
	if err != nil {
		return err
	}
	defer c.close()
	var r result
	if t.Workload.Kind == request {
		r, err = closedLoop(c, t.Workload, t.Time)
	} else {
		r, err = flood(c, t.Workload, t.Time)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// closedLoop keeps a number of requests in flight for a time and checks every reply.
func closedLoop(c client, w workload, d time.Duration) (result, error) {
	payload := bytes.Repeat([]byte{'x'}, w.Size)
	meter := load.NewMeter()
	load.Run(context.Background(), load.Config{InFlight: w.Flight, Duration: d, WarmUp: warmUp}, meter, func(context.Context) error {
		reply, err := c.request(echoName, payload)
		if err == nil && !bytes.Equal(reply, payload) {
			err = errors.New("the reply is not the request")
		}
		return err
	})
	s := meter.Summary()
	if len(s.Errors) > 0 || s.Count == 0 {
		return result{}, fmt.Errorf("%d requests were answered, errors: %v", s.Count, s.Errors)
	}
	rate := float64(s.Count) / d.Seconds()
	return result{P50: s.P50, P99: s.P99, Rate: rate, Done: rate * (d + warmUp).Seconds()}, nil
}

// flood sends as fast as it goes and asks what arrived.
func flood(c client, w workload, d time.Duration) (result, error) {
	message := bytes.Repeat([]byte{'x'}, w.Size)
	if _, err := takeTally(c); err != nil {
		return result{}, err
	}
	end := time.Now().Add(d)
	sent, err := 0, error(nil)
	if w.Kind == stream {
		sent, err = c.stream(message, func() bool { return time.Now().Before(end) })
	} else {
		send, name := c.publish, fmt.Sprintf("%s%d", topicName, w.Flight)
		if w.Kind == cast {
			send, name = c.broadcast, castName
		}
		for ; err == nil && (sent%64 > 0 || time.Now().Before(end)); sent++ {
			err = send(name, message)
		}
	}
	if err != nil {
		return result{}, err
	}
	t, err := takeTally(c)
	if err != nil || t.Count < 2 {
		return result{}, errors.Join(err, fmt.Errorf("%d of %d messages were delivered", t.Count, sent))
	}
	delivered := float64(t.Count) / float64(w.Flight)
	return result{Rate: delivered / t.Took.Seconds(), Lost: 1 - delivered/float64(sent), Done: delivered}, nil
}

// takeTally waits until nothing arrives any more, and returns what did.
func takeTally(c client) (tally, error) {
	var t tally
	for last := -1; last != t.Count || last < 0; {
		last = t.Count
		<-time.After(100 * time.Millisecond)
		b, err := c.request(tallyName, []byte("peek"))
		if err != nil {
			return t, err
		}
		if err := json.Unmarshal(b, &t); err != nil {
			return t, err
		}
	}
	_, err := c.request(tallyName, []byte("reset"))
	return t, err
}

// A tally is how many messages have arrived, and within what time.
type tally struct {
	Count int           `json:"count"`
	Took  time.Duration `json:"took"` // from the first to the last
}

// A counter counts messages.
type counter struct {
	mu          sync.Mutex // guards the fields below
	count       int
	first, last time.Time
}

func (c *counter) add() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count++; c.count == 1 {
		c.first = now
	}
	c.last = now
}

// answer answers a request to tallyName.
func (c *counter) answer(request []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := tally{c.count, c.last.Sub(c.first)}
	if string(request) == "reset" {
		c.count = 0
	}
	return json.Marshal(t)
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
