package overlay

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// syncLimit is how long a leaving node waits for what is on its way on one link.
const syncLimit = time.Second

// Leave tells the peers that this node hosts nothing any more and is going, and
// waits until they confirmed and until the messages are handled that were sent
// before they knew, and those that Message answered to them: then the links may
// end. If ctx is done before, that is an error; a link that does not answer is
// given a second and is none. Run must be running or have ended; links stay up
// until it ends. What is announced afterwards is told to nobody.
func (o *Overlay) Leave(ctx context.Context) error {
	select {
	case <-o.mail.leave():
	case <-ctx.Done():
		return fmt.Errorf("overlay: leave: not all peers have confirmed: %w", ctx.Err())
	}
	var wg sync.WaitGroup
	for _, l := range *o.links.current.Load() {
		wg.Go(func() { o.empty(ctx, l.conn) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("overlay: leave: messages may be on their way: %w", err)
	}
	return nil
}

// empty waits until nothing is on its way on a link any more. Twice: when the
// first barrier is over, the peer's messages of the time before it knew that this
// node leaves have been taken or refused here. Their answers were sent after the
// marks of that barrier, so only the second makes sure that they are there.
func (o *Overlay) empty(ctx context.Context, c conn) {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	for range 2 {
		if err := c.Sync(ctx); err != nil {
			o.log.Debug("leaving: messages may be lost", "peer", c.Peer(), "err", err)
			return
		}
	}
}
