package iris

import "sync"

// A crew counts the goroutines that run handlers of a connection: those of
// broadcasts, events and tunnels. Unregister waits for them.
type crew struct {
	mu      sync.Mutex // guards the fields below
	running int
	idle    chan struct{} // closed when nobody runs; nil while nobody waits for that
}

// start runs fn in a goroutine.
func (c *crew) start(fn func()) {
	c.mu.Lock()
	c.running++
	c.mu.Unlock()
	go func() {
		defer c.leave()
		fn()
	}()
}

func (c *crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.tellLocked()
}

// awaitIdle returns a channel that is closed when nobody runs.
func (c *crew) awaitIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.tellLocked()
	return idle
}

func (c *crew) tellLocked() {
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}
