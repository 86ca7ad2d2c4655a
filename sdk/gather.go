package iris

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/project-iris/iris/spec/wire"
)

const (
	// gatherMost is how long letting others go first may take.
	gatherMost = 50 * time.Microsecond
	// gatherPause is how long nobody lets others go first after it took longer.
	gatherPause = 10 * time.Millisecond
	// soon is how long something may wait for more to be written with it.
	soon = 20 * time.Microsecond
	// enough bytes do not wait for more.
	enough = 32 << 10
)

// A gatherer lets goroutines that are about to append to an output do so before
// one of them writes for all: a system call for many small frames in place of one
// for each. Where the processors are busy with other things, and going first is
// worth more, it notices and stays out of the way. Safe for concurrent use.
type gatherer struct {
	epoch time.Time
	until atomic.Int64 // since epoch: nobody lets others go first

	flushed atomic.Int64 // since epoch: when flushSoon flushed last
	waiting atomic.Int64 // bytes that it left
	owed    atomic.Bool  // a goroutine is about to flush them
}

// flush flushes out. If writers, the number of goroutines that write to it now
// and then, is more than the calling one, runnable goroutines go first.
func (g *gatherer) flush(out *wire.Output, writers int) {
	if writers > 1 {
		g.yield()
	}
	out.Flush()
}

// yield lets runnable goroutines go first.
func (g *gatherer) yield() {
	began := time.Since(g.epoch)
	if int64(began) < g.until.Load() {
		return
	}
	runtime.Gosched()
	if now := time.Since(g.epoch); now-began > gatherMost {
		g.until.Store(int64(now + gatherPause))
	}
}

// flushSoon flushes out: at once if the last time was a while ago or much waits.
// Otherwise the next caller does, or a goroutine that start starts, which gets to
// run when the callers pause.
func (g *gatherer) flushSoon(out *wire.Output, size int, start func(func()) bool) {
	now := int64(time.Since(g.epoch))
	waiting := g.waiting.Add(int64(size))
	if waiting >= enough || now-g.flushed.Load() >= int64(soon) {
		g.flushNow(out, now)
		return
	}
	if !g.owed.Swap(true) {
		start(func() {
			g.owed.Store(false)
			g.flushNow(out, int64(time.Since(g.epoch)))
		})
	}
}

func (g *gatherer) flushNow(out *wire.Output, now int64) {
	g.flushed.Store(now)
	g.waiting.Store(0)
	out.Flush()
}
