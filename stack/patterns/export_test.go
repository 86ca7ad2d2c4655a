package patterns

// InFlight is how many entries the node holds, and what it counts as running at
// sessions and parked.
func (n *Node) InFlight() (entries, running, parked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slab.used, int(n.running.Load()), n.parkedBytes
}

// Known is how many groups with members the node serves or has sent to of late.
func (n *Node) Known() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := 0
	for _, g := range n.groups {
		if len(g.locals.members)+len(g.remotes.members) > 0 {
			known++
		}
	}
	return known
}
