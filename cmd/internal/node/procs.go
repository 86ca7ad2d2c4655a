package node

import (
	"os"
	"runtime"
)

// ShareProcessors leaves half of the host's processors to the applications,
// unless $GOMAXPROCS says otherwise: they are what the host is for, and a node
// that runs on few of them batches more and wakes less (adr/0005).
func ShareProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}
