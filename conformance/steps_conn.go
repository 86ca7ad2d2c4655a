package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// An attaching opens a connection to the endpoint and is welcomed.
type attaching struct{ cluster string }

func parseAttach(w *written) (action, error) {
	if w.value.Tag == "!!null" {
		return &attaching{}, nil
	}
	return &attaching{w.value.Value}, nil
}

func (a *attaching) play(ctx context.Context, p *player, on string) error {
	cluster := a.cluster
	if cluster != "" {
		cluster += p.unique
	}
	if err := (&dialling{}).play(ctx, p, on); err != nil {
		return err
	}
	hello := pattern{ops[0], []any{"iris", uint64(1), uint64(1), cluster, map[string]any{}, []any{}}}
	if err := (&sending{frame: hello}).play(ctx, p, on); err != nil {
		return err
	}
	return (&expecting{frames: []pattern{{ops[1], []any{uint64(1)}}}}).play(ctx, p, on)
}

// A welcoming awaits a welcome that keeps relay.md 2.6 and 4.1.
type welcoming struct{ version uint64 }

func parseExpectWelcome(w *written) (action, error) {
	n, err := strconv.ParseUint(w.value.Value, 10, 32)
	return &welcoming{n}, err
}

func (s *welcoming) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	a, err := p.next(ctx, c, p.patience, nil)
	switch {
	case err != nil:
		return fmt.Errorf("want a welcome: %w", err)
	case a.err != nil:
		return fmt.Errorf("want a welcome: the connection ended: %w", a.err)
	case a.op.name != "welcome" || a.fields[0] != s.version:
		return fmt.Errorf("%s came, want a welcome of version %d", describe(a.op, a.fields), s.version)
	}
	told, info, features := a.fields[1].(map[string]any), a.fields[2].(map[string]any), a.fields[3].([]any)
	if len(told) > 64 || len(info) > 64 || len(features) > 64 {
		return errors.New("a welcome with more than 64 entries (2.6)")
	}
	limits := defaultLimits()
	for name, v := range told {
		if n := v.(uint64); n > 0 {
			limits[name] = n
		}
	}
	least := max(limits["payload"]+limits["headers"]+max(limits["name"], 16_384)+dataOverhead, limits["chunk"]+dataOverhead)
	if limits["frame"] < least {
		return fmt.Errorf("the limit frame is %d, less than %d (4.1)", limits["frame"], least)
	}
	return nil
}

// A dialling opens a connection to the endpoint and says nothing.
type dialling struct{ tcp bool }

func parseDial(w *written) (action, error) {
	if w.value.Tag != "!!null" && w.value.Value != "tcp" {
		return nil, errors.New("want nothing, or tcp")
	}
	return &dialling{w.value.Value == "tcp"}, nil
}

// errNoPort says that a case cannot be played for want of a port.
var errNoPort = errors.New("the port of the endpoint is not known")

func (d *dialling) play(ctx context.Context, p *player, on string) error {
	dial := p.dial
	if d.tcp {
		if p.port == 0 {
			return errNoPort
		}
		dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)))
		}
	}
	nc, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoEndpoint, err)
	}
	p.adopt(nc, on, nil)
	return nil
}

// An accepting awaits a connection of the subject and its hello, and welcomes it.
type accepting struct {
	cluster  string
	limits   map[string]uint64
	silent   bool // leave the answer to the script
	raw      bool // leave the hello to the script too
	mute     bool // leave the answers to pings to the script
	patience time.Duration
}

func parseAccept(w *written) (action, error) {
	a := &accepting{}
	switch w.value.Kind {
	case yaml.ScalarNode:
		if w.value.Tag != "!!null" {
			a.cluster = w.value.Value
		}
		return a, nil
	case yaml.MappingNode:
		var o struct {
			Cluster, Within   string
			Limits            map[string]uint64
			Silent, Raw, Mute bool
		}
		if err := decodeStrict(w.value, &o); err != nil {
			return nil, err
		}
		a.cluster, a.limits, a.silent, a.raw, a.mute = o.Cluster, o.Limits, o.Silent || o.Raw, o.Raw, o.Mute
		if o.Within != "" {
			var err error
			if a.patience, err = time.ParseDuration(o.Within); err != nil {
				return nil, err
			}
		}
		return a, nil
	}
	return nil, errors.New("want nothing, a cluster or a map")
}

func (a *accepting) play(ctx context.Context, p *player, on string) error {
	if err := p.flush(); err != nil {
		return err
	}
	patience := max(a.patience, p.patience)
	nc, err := p.server.accept(patience)
	if err != nil {
		return fmt.Errorf("no connection came: %w", err)
	}
	watch := newMonitor()
	watch.mute = a.mute
	for name, n := range a.limits {
		if n > 0 {
			watch.limits[name] = n
		}
	}
	p.adopt(nc, on, watch)
	if a.raw {
		return nil
	}
	hello := pattern{ops[0], []any{"iris", between{0, 1}, between{1, 1<<32 - 1}, a.cluster}}
	if err := (&expecting{frames: []pattern{hello}}).play(ctx, p, on); err != nil || a.silent {
		return err
	}
	limits := map[string]any{}
	for name, n := range a.limits {
		limits[name] = n
	}
	welcome := pattern{ops[1], []any{uint64(1), limits, map[string]any{"node": "conformance"}, []any{}}}
	return (&sending{frame: welcome}).play(ctx, p, on)
}

// A listening opens or closes the place where the subject looks for its node.
type listening struct{ open bool }

func parseListen(w *written) (action, error) {
	open, err := strconv.ParseBool(w.value.Value)
	return &listening{open}, err
}

func (l *listening) play(_ context.Context, p *player, _ string) error {
	if l.open {
		return p.server.listen()
	}
	p.server.close()
	return nil
}

// A closing ends a connection from this side.
type closing struct{ how string }

func parseClose(w *written) (action, error) {
	switch w.value.Value {
	case "fin", "reset", "half":
		return &closing{w.value.Value}, nil
	}
	return nil, errors.New("want fin, reset or half")
}

func (s *closing) play(_ context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	p.trace.note(on, "closed: "+s.how)
	if s.how == "half" {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
			return ignoreBroken(half.CloseWrite())
		}
		return errors.New("the connection cannot be closed in one direction")
	}
	p.mu.Lock()
	c.closed = true
	p.mu.Unlock()
	if tcp, ok := c.Conn.(*net.TCPConn); ok && s.how == "reset" {
		_ = tcp.SetLinger(0)
	}
	return ignoreBroken(c.Close())
}

// A stalling stops reading a connection, or goes on.
type stalling struct{ stop bool }

func parseStall(w *written) (action, error) {
	stop, err := strconv.ParseBool(w.value.Value)
	return &stalling{stop}, err
}

func (s *stalling) play(_ context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.stalled = s.stop
	p.notifyLocked()
	return nil
}

// A delaying waits.
type delaying struct{ pause time.Duration }

func parseDelay(w *written) (action, error) {
	d, err := parseDuration(w.value)
	return &delaying{d}, err
}

func (d *delaying) play(ctx context.Context, p *player, _ string) error {
	err := p.wait(ctx, d.pause, func() (bool, error) { return false, nil })
	if errors.Is(err, errPatience) {
		return nil
	}
	return err
}
