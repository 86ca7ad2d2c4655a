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
)

// A gatherer lets goroutines that are about to append to an output do so before
// one of them writes for all: a system call for many small frames in place of one
// for each. Where the processors are busy with other things, and going first is
// worth more, it notices and stays out of the way. Safe for concurrent use.
type gatherer struct {
	epoch time.Time
	until atomic.Int64 // since epoch: nobody lets others go first
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
