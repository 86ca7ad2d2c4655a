package overlay
import ("fmt")
func (n *simNode) dump(key Key) string {
	g := n.core.groups[key]
	if g == nil { return fmt.Sprintf("%x: none", n.id[:2]) }
	s := fmt.Sprintf("%x: count %d watch %v keeper %x seeking %v ver %d viewed %v entries %d shown %d peers %d told/promises %d", n.id[:2], g.count, g.watch, g.keeper[:2], g.seeking, g.version, g.viewed, len(g.entries), len(g.shown), len(n.core.peers), len(g.promises))
	if k := g.kept; k != nil {
		s += fmt.Sprintf(" KEPT ready %v self %v attached %d co [", k.ready, k.self, len(k.attached))
		for _, p := range k.co { s += fmt.Sprintf("%x ", p.id[:2]) }
		s += "] recs "
		for _, r := range k.members { s += fmt.Sprintf("%x:v%d c%d by %x ", r.node[:2], r.version, r.count, r.by[:2]) }
	}
	return s
}
