package link

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/quic-go/quic-go"
)

// serve leads the connection through its life: hello, Up, messages, Down. ctx is
// that of Run.
func (c *Conn) serve(ctx context.Context) {
	defer close(c.done)
	defer c.t.release(c)
	unhook := context.AfterFunc(ctx, func() { c.Close(ReasonLeaving) })
	defer unhook()
	stream, in, err := c.open(ctx)
	if err != nil {
		c.failure = err
		c.turnAway(err)
		return
	}
	c.t.handler.Up(c)
	c.t.raise(c)
	c.wg.Go(func() { c.readControl(stream, in) })
	c.wg.Go(c.acceptLanes)
	c.wg.Go(c.refuseStreams)
	<-c.quic.Context().Done()
	c.shut()
	c.trunks.end()
	c.wg.Wait()
	c.logEnd(causeOf(c.quic))
	c.t.handler.Down(c, causeOf(c.quic))
}

// acceptLanes reads each lane that the peer opens in a goroutine of its own; QUIC
// lets it open no more than agreed.
func (c *Conn) acceptLanes() {
	for {
		stream, err := c.quic.AcceptUniStream(context.Background())
		if err != nil {
			return // the connection is over
		}
		c.wg.Go(func() {
			lane := int(stream.StreamID() / 4) // the peer's unidirectional streams are its lanes, in order
			in := &splitter{max: c.t.maxMessage, mark: func(length uint32) error { return c.passed(lane, length) }}
			c.read(stream, in, func(t *Turn, msg []byte) { c.t.handler.Message(t, c, msg) })
		})
	}
}

// refuseStreams ends a link whose peer opens a second stream like the control
// stream: those belong on a trunk, and the handshake cannot limit links and trunks
// apart.
func (c *Conn) refuseStreams() {
	if _, err := c.quic.AcceptStream(context.Background()); err == nil {
		c.violate(errors.New("a stream beside the control stream"))
	}
}

// read hands each message of a stream to handle, and ends the turn when what was
// read is used up, before it waits for more. in may hold bytes already. Streams
// live as long as their connection, so any end of one ends the link.
func (c *Conn) read(stream io.Reader, in *splitter, handle func(t *Turn, msg []byte)) {
	var turn Turn
	defer turn.End()
	for {
		msg, err := in.next()
		count := uint64(0)
		for ; msg != nil; msg, err = in.next() {
			handle(&turn, msg)
			count++
		}
		c.received.Add(count)
		if err != nil {
			c.violate(err)
			return
		}
		turn.End()
		n, err := stream.Read(in.room())
		in.filled(n)
		if err != nil {
			if known(err) == nil { // the link has not ended: the stream has
				c.violate(err)
			}
			return
		}
	}
}

// violate closes the link because of what the peer sent.
func (c *Conn) violate(err error) {
	if c.alive() {
		c.violation.Do(func() { c.broken = err })
		c.t.pauses.begin(c.peer, time.Now())
		c.Close(ReasonProtocol)
	}
}

// logEnd tells an operator why the link is over, once.
func (c *Conn) logEnd(cause error) {
	if c.broken != nil {
		c.t.log.Warn("link ended: the peer broke the protocol", "peer", c.peer, "addr", c.addr, "err", c.broken)
		return
	}
	c.t.log.Info("link ended", "peer", c.peer, "addr", c.addr, "err", cause)
}

// Close ends the link with a reason that the peer sees. What was not sent yet is
// lost. It does not wait for Down. Closing a link again does nothing.
func (c *Conn) Close(reason Reason) {
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(reason), "")
}

// shut refuses further messages.
func (c *Conn) shut() {
	c.control.shut()
	for _, lane := range c.lanes {
		lane.shut()
	}
}

// turnAway closes a connection that did not become a link.
func (c *Conn) turnAway(err error) {
	var local *LocalError
	var refused *RefusedError
	switch {
	case !c.alive():
	case errors.As(err, &local):
		c.Close(local.Reason)
	case errors.As(err, &refused) && refused.Word == refusedVersion:
		c.Close(ReasonVersion)
	default:
		c.Close(ReasonProtocol)
	}
	if errors.As(err, &refused) {
		c.t.refusals.add(refused, c.addr)
	}
}
