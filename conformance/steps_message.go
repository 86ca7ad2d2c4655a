package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// A message of a tunnel: its chunks are not the script's concern.
type message struct {
	tunnel  any
	payload []byte
	chunk   int  // bytes; of what is sent
	allow   bool // allow again what was received
}

func parseMessage(w *written) (*message, error) {
	var o struct {
		Tunnel, Payload yaml.Node
		Chunk           int
		Allow           bool
	}
	if w.value.Kind != yaml.MappingNode {
		return nil, errors.New("want {tunnel: …, payload: …}")
	}
	for i := 0; i < len(w.value.Content); i += 2 {
		var err error
		switch key, n := w.value.Content[i].Value, w.value.Content[i+1]; key {
		case "tunnel":
			o.Tunnel = *n
		case "payload":
			o.Payload = *n
		case "chunk":
			err = n.Decode(&o.Chunk)
		case "allow":
			err = n.Decode(&o.Allow)
		default:
			err = fmt.Errorf("unknown field %q", key)
		}
		if err != nil {
			return nil, err
		}
	}
	tunnel, err := parseNumber(anID, &o.Tunnel)
	if err != nil {
		return nil, err
	}
	payload, err := parseText(aPayload, &o.Payload)
	if err != nil {
		return nil, err
	}
	return &message{tunnel, payload.([]byte), max(o.Chunk, 0), o.Allow}, nil
}

// A messageSending sends a message in chunks, as the client allows it.
type messageSending struct{ message }

func parseSendMessage(w *written) (action, error) {
	m, err := parseMessage(w)
	if err != nil {
		return nil, err
	}
	if m.chunk == 0 {
		m.chunk = 65_536
	}
	return &messageSending{*m}, nil
}

func (s *messageSending) play(ctx context.Context, p *player, on string) error {
	data, _ := opNamed("data")
	for rest := s.payload; ; {
		n := min(len(rest), s.chunk)
		last := uint64(0)
		if n == len(rest) {
			last = 1
		}
		if err := (&sending{frame: pattern{data, []any{s.tunnel, last, rest[:n]}}}).play(ctx, p, on); err != nil || last == 1 {
			return err
		}
		rest = rest[n:]
	}
}

// A messageExpecting awaits the chunks of a message.
type messageExpecting struct{ message }

func parseExpectMessage(w *written) (action, error) {
	m, err := parseMessage(w)
	if err != nil {
		return nil, err
	}
	return &messageExpecting{*m}, nil
}

func (s *messageExpecting) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	allow, _ := opNamed("allow")
	id := p.resolve([]any{s.tunnel})[0]
	for got := []byte{}; ; {
		a, err := p.next(ctx, c, p.patience, p.ignoring(nil))
		switch {
		case err != nil:
			return fmt.Errorf("%d bytes of %d came: %w", len(got), len(s.payload), err)
		case a.err != nil:
			return fmt.Errorf("%d bytes of %d came: the connection ended: %w", len(got), len(s.payload), a.err)
		case a.op.name != "data" || a.fields[0] != id:
			return fmt.Errorf("%s came, want data of tunnel %v", describe(a.op, a.fields), id)
		}
		chunk := a.fields[2].([]byte)
		got = append(got, chunk...)
		if !bytes.HasPrefix(s.payload, got) {
			return fmt.Errorf("the message is %s, want %s", short(got), short(s.payload))
		}
		if a.fields[1] == uint64(1) {
			if len(got) != len(s.payload) {
				return fmt.Errorf("the message has %d bytes, want %d", len(got), len(s.payload))
			}
			return nil
		}
		if s.allow {
			again := pattern{allow, []any{s.tunnel, uint64(len(chunk) + dataOverhead)}}
			if err := (&sending{frame: again}).play(ctx, p, on); err != nil {
				return err
			}
		}
	}
}

// A creditOverdrawing sends requests until there is one more than the client has
// granted.
type creditOverdrawing struct{}

func (*creditOverdrawing) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	request, _ := opNamed("request")
	for i := range uint64(10_000) {
		p.mu.Lock()
		last := c.state.credit[0] == 0
		cluster := c.state.cluster
		p.mu.Unlock()
		frame := &sending{frame: pattern{request, []any{i, cluster, noDeadline, map[string]any{}, []byte("x")}}, regardless: true}
		if err := frame.play(ctx, p, on); err != nil || last {
			return err
		}
	}
	return errors.New("the client grants credit for more than 10,000 requests")
}

// An overdrawing sends data until it costs more than the client has allowed.
type overdrawing struct{ tunnel any }

func parseOverdraw(w *written) (action, error) {
	if w.value.Value == "requests" {
		return &creditOverdrawing{}, nil
	}
	tunnel, err := parseNumber(anID, w.value)
	return &overdrawing{tunnel}, err
}

func (s *overdrawing) play(ctx context.Context, p *player, on string) error {
	c, err := p.conn(on)
	if err != nil {
		return err
	}
	data, _ := opNamed("data")
	id, _ := p.resolve([]any{s.tunnel})[0].(uint64)
	chunk := make([]byte, 60_000)
	for range 1000 {
		frame := &sending{frame: pattern{data, []any{s.tunnel, uint64(0), chunk}}, regardless: true}
		if err := frame.play(ctx, p, on); err != nil {
			return err
		}
		p.mu.Lock()
		t := c.state.tunnels[id]
		over := t == nil || t.ours < 0
		p.mu.Unlock()
		if over {
			return nil
		}
	}
	return errors.New("the client allows more than 60 MB")
}
