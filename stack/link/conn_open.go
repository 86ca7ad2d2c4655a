package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"
)

// open exchanges hellos and gets the place of the peer for c. The rules are in
// the package comment. It returns the control stream and what was read from it
// beyond the hello.
func (c *Conn) open(ctx context.Context) (*quic.Stream, *splitter, error) {
	if c.t.pauses.lasts(c.peer, time.Now()) {
		return nil, nil, &LocalError{ReasonProtocol}
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stream, err := c.controlStream(ctx)
	if err != nil {
		return nil, nil, c.cause(err)
	}
	// Nothing that lanes carry may delay control.
	stream.SetPriority(0, false)
	if err := stream.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, nil, c.cause(err)
	}
	in, err := c.exchange(ctx, stream)
	if err != nil {
		return nil, nil, c.cause(err)
	}
	if err := stream.SetDeadline(time.Time{}); err != nil {
		return nil, nil, c.cause(err)
	}
	if err := c.openOutputs(stream); err != nil {
		return nil, nil, err
	}
	return stream, in, c.stand()
}

func (c *Conn) controlStream(ctx context.Context) (*quic.Stream, error) {
	if c.dialled {
		return c.quic.OpenStream()
	}
	return c.quic.AcceptStream(ctx)
}

// exchange tells and hears the hellos, in the order that makes the lower id's the
// confirmation.
func (c *Conn) exchange(ctx context.Context, stream *quic.Stream) (*splitter, error) {
	in := &splitter{max: maxHelloBytes}
	admit := func() error { return c.t.admit(ctx, c) }
	tell := func() error { return c.tellHello(stream) }
	hear := func() error { return c.hearHello(stream, in) }
	steps := []func() error{hear, admit, tell}
	if c.dialled {
		steps = []func() error{tell, hear, admit}
		if c.t.id.Compare(c.peer) < 0 {
			steps = []func() error{admit, tell, hear}
		}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	in.max = max(c.t.maxMessage, maxCertificateBytes)
	return in, nil
}

func (c *Conn) tellHello(stream *quic.Stream) error {
	h := hello{version: version, maxMessage: uint32(c.t.maxMessage)}
	_, err := stream.Write(appendFrame(nil, h.append(nil), nil))
	return err
}

func (c *Conn) hearHello(stream *quic.Stream, in *splitter) error {
	msg, err := in.next()
	for msg == nil && err == nil {
		var n int
		n, err = stream.Read(in.room())
		if err != nil {
			return fmt.Errorf("hear the hello: %w", err)
		}
		in.filled(n)
		msg, err = in.next()
	}
	if err != nil {
		return &RefusedError{refusedHello, err.Error()}
	}
	h, err := parseHello(msg)
	if err != nil {
		return &RefusedError{refusedHello, err.Error()}
	}
	if h.version != version {
		return &RefusedError{refusedVersion, fmt.Sprintf("the peer speaks version %d of links, this node version %d", h.version, version)}
	}
	c.peerLimit = int(min(h.maxMessage, maxMaxMessage))
	return nil
}

// openOutputs makes what Send and SendControl write to. A lane costs nothing
// before its first message.
func (c *Conn) openOutputs(control *quic.Stream) error {
	c.control = c.newOutput(control, controlLimit)
	for i := range c.lanes {
		stream, err := c.quic.OpenUniStream()
		if err != nil {
			return c.cause(fmt.Errorf("open lane %d: %w", i, err))
		}
		c.lanes[i] = c.newOutput(stream, laneLimit)
	}
	return nil
}

func (c *Conn) newOutput(w writer, limit int) *output {
	return &output{w: w, limit: limit, buffers: c.t.buffers, wg: &c.wg}
}

// cause prefers the reason for which the connection ended to the error of the
// operation that noticed it.
func (c *Conn) cause(err error) error {
	if e := known(err); e != nil {
		return e
	}
	if local := (*LocalError)(nil); errors.As(err, &local) || c.alive() {
		return err
	}
	return causeOf(c.quic)
}
