package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/cmd/internal/load"
	iris "github.com/project-iris/iris/sdk"
)

// A benchService is the other side of a measurement: it echoes requests and
// tunnels, and meters broadcasts and events by the time that they carry.
type benchService struct {
	idle
	meter *load.Meter
	epoch time.Time
	since atomic.Int64 // when what arrives began to count, since epoch
}

func newBenchService(o benchOptions) *benchService {
	s := &benchService{idle: idle{dropped: make(chan error, 1)}, meter: load.NewMeter(), epoch: time.Now()}
	s.since.Store(int64(o.config.WarmUp))
	return s
}

// HandleRequest echoes.
func (s *benchService) HandleRequest(request []byte) ([]byte, error) { return request, nil }

// HandleBroadcast meters a message.
func (s *benchService) HandleBroadcast(message []byte) { s.HandleEvent(message) }

// HandleEvent meters a message.
func (s *benchService) HandleEvent(message []byte) {
	sent := int64(binary.BigEndian.Uint64(message))
	if sent >= s.since.Load() {
		s.meter.Add(time.Since(s.epoch) - time.Duration(sent))
	}
}

// HandleTunnel echoes messages.
func (s *benchService) HandleTunnel(t *iris.Tunnel) {
	ctx := context.Background() // the tunnel ends with its client
	for {
		message, err := t.Recv(ctx)
		if err == nil {
			err = t.Send(ctx, message)
		}
		if err != nil {
			_ = t.Close()
			return
		}
	}
}

// stamp writes the time into message and tells whether it counts.
func (s *benchService) stamp(message []byte) bool {
	now := int64(time.Since(s.epoch))
	binary.BigEndian.PutUint64(message, uint64(now))
	return now >= s.since.Load()
}

// with registers the service under a name of its own and connects a client.
func (o benchOptions) with(ctx context.Context, s *benchService, do func(ctx context.Context, conn *iris.Connection, name string) error) error {
	name := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	service, err := iris.Register(o.serveAt, name, s, nil)
	if err != nil {
		return err
	}
	err = attached(ctx, o.port, func(ctx context.Context, conn *iris.Connection) error { return do(ctx, conn, name) })
	return errors.Join(err, service.Unregister())
}

func benchRequest(ctx context.Context, o benchOptions) (benchReport, error) {
	s := newBenchService(o)
	message := make([]byte, o.size)
	err := o.with(ctx, s, func(ctx context.Context, conn *iris.Connection, name string) error {
		if o.cluster != "" {
			name = o.cluster
		}
		load.Run(ctx, o.config, s.meter, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, sendTimeout)
			defer cancel()
			_, err := conn.Request(ctx, name, message)
			return err
		})
		return nil
	})
	return o.newReport(s.meter, 0), err
}

func benchBroadcast(ctx context.Context, o benchOptions) (benchReport, error) {
	return o.benchOneWay(ctx, func(ctx context.Context, _ *benchService, conn *iris.Connection, name string) (func([]byte) error, error) {
		return func(message []byte) error { return conn.Broadcast(ctx, name, message) }, nil
	})
}

func benchPublish(ctx context.Context, o benchOptions) (benchReport, error) {
	subscriber, err := iris.Connect(o.serveAt)
	if err != nil {
		return benchReport{}, err
	}
	defer subscriber.Close()
	return o.benchOneWay(ctx, func(ctx context.Context, s *benchService, conn *iris.Connection, name string) (func([]byte) error, error) {
		if err := subscriber.Subscribe(ctx, name, s, nil); err != nil {
			return nil, err
		}
		return func(message []byte) error { return conn.Publish(ctx, name, message) }, nil
	})
}

// benchOneWay sends messages that the service meters when they arrive.
func (o benchOptions) benchOneWay(ctx context.Context, prepare func(context.Context, *benchService, *iris.Connection, string) (func([]byte) error, error)) (benchReport, error) {
	s := newBenchService(o)
	var sent atomic.Int64
	failures := load.NewMeter()
	err := o.with(ctx, s, func(ctx context.Context, conn *iris.Connection, name string) error {
		send, err := prepare(ctx, s, conn, name)
		if err != nil {
			return err
		}
		s.since.Store(int64(time.Since(s.epoch) + o.config.WarmUp))
		load.Run(ctx, o.config, failures, func(context.Context) error {
			message := make([]byte, o.size)
			counts := s.stamp(message)
			err := send(message)
			if err == nil && counts {
				sent.Add(1)
			}
			return err
		})
		s.awaitQuiet(ctx)
		return nil
	})
	report := o.newReport(s.meter, sent.Load())
	report.Latency.Errors = failures.Summary().Errors
	return report, err
}

// awaitQuiet waits until nothing has arrived for a while, at most some seconds.
func (s *benchService) awaitQuiet(ctx context.Context) {
	const quiet, most = 300 * time.Millisecond, 10 * time.Second
	ticker := time.NewTicker(quiet)
	defer ticker.Stop()
	end := time.Now().Add(most)
	for last := int64(-1); time.Now().Before(end); {
		now := s.meter.Summary().Count
		if now == last {
			return
		}
		last = now
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// benchTunnel has one tunnel for each operation in flight; an operation is a
// message there and back.
func benchTunnel(ctx context.Context, o benchOptions) (benchReport, error) {
	s := newBenchService(o)
	err := o.with(ctx, s, func(ctx context.Context, conn *iris.Connection, name string) error {
		tunnels := make(chan *iris.Tunnel, o.config.InFlight)
		defer func() {
			for len(tunnels) > 0 {
				_ = (<-tunnels).Abort("the measurement is over")
			}
		}()
		for range o.config.InFlight {
			t, err := conn.Tunnel(ctx, name)
			if err != nil {
				return err
			}
			tunnels <- t
		}
		load.Run(ctx, o.config, s.meter, func(ctx context.Context) error {
			t := <-tunnels
			defer func() { tunnels <- t }()
			if err := t.Send(ctx, make([]byte, o.size)); err != nil {
				return err
			}
			_, err := t.Recv(ctx)
			if errors.Is(err, io.EOF) {
				return errors.New("the tunnel ended")
			}
			return err
		})
		return nil
	})
	return o.newReport(s.meter, 0), err
}
