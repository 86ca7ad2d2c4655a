package iris

// ServiceLimits bound what a service takes on at once. Requests and tunnels
// beyond them go to other members of the cluster, or fail as overloaded.
type ServiceLimits struct {
	// RequestThreads is how many handlers run at once. If zero, 1,024: a
	// goroutine that waits costs little, and a service whose handlers ask its own
	// cluster needs one for each of them. Lower it where handlers are heavy.
	RequestThreads int
	// RequestQueue is how many more requests may wait for a handler. If zero,
	// 1,024. If negative, none.
	RequestQueue int
	// RequestMemory is how many bytes of payloads and headers the running and
	// waiting requests may hold; one request alone may always exceed it. The nearer
	// they come, the fewer requests the service takes; one that does not fit all
	// the same fails with a text that says so. If zero, 64 MiB.
	RequestMemory int
	// BroadcastThreads is how many broadcasts are handled at once. If zero, one:
	// those of one sender come in their order.
	BroadcastThreads int
	// BroadcastMemory is how many bytes of payloads and headers may wait or be
	// handled, of at most 16,384 broadcasts; one alone may always exceed it. What
	// exceeds it is dropped: senders never wait. If zero, 64 MiB.
	BroadcastMemory int
	// TunnelThreads is how many tunnels to the service may be open, each with a
	// handler of its own. Further ones go to other members, or fail as overloaded. If
	// zero, 16,384.
	TunnelThreads int
}

const (
	defaultThreads = 1024
	defaultQueue   = 1024
	defaultMemory  = 64 << 20
	defaultTunnels = 16_384
	maxCredit      = 1<<31 - 1 // threads and queue together
)

// resolve fills in the defaults of l, which may be nil.
func (l *ServiceLimits) resolve() ServiceLimits {
	var r ServiceLimits
	if l != nil {
		r = *l
	}
	if r.RequestThreads <= 0 {
		r.RequestThreads = defaultThreads
	}
	if r.RequestQueue == 0 {
		r.RequestQueue = defaultQueue
	}
	if r.RequestMemory <= 0 {
		r.RequestMemory = defaultMemory
	}
	if r.BroadcastThreads <= 0 {
		r.BroadcastThreads = 1
	}
	if r.BroadcastMemory <= 0 {
		r.BroadcastMemory = defaultMemory
	}
	if r.TunnelThreads <= 0 {
		r.TunnelThreads = defaultTunnels
	}
	r.BroadcastMemory = min(r.BroadcastMemory, maxCredit)
	r.RequestThreads = min(r.RequestThreads, maxCredit)
	r.RequestQueue = min(max(r.RequestQueue, 0), maxCredit-r.RequestThreads)
	return r
}
