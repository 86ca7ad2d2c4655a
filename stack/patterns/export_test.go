package patterns

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
