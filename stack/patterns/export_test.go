package patterns

// InFlight is how many entries the node holds, and what it counts as running at
// sessions and parked.
func (n *Node) InFlight() (entries, running, parked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slab.used, int(n.running.Load()), n.parkedBytes
}
