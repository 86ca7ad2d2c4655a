package iris

// A Tunnel is an ordered stream of messages to one member of a cluster. This
// version of the protocol has none yet: nothing makes a Tunnel.
type Tunnel struct {
	_ struct{}
}
