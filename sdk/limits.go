package iris

// ServiceLimits bound what a service takes on at once. Requests beyond them go
// to other members of the cluster, or fail as overloaded.
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
}

const (
	defaultThreads = 1024
	defaultQueue   = 1024
	defaultMemory  = 64 << 20
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
	r.RequestThreads = min(r.RequestThreads, maxCredit)
	r.RequestQueue = min(max(r.RequestQueue, 0), maxCredit-r.RequestThreads)
	return r
}
