package overlay

import (
	"fmt"
)

func (n *simNode) dump(key Key) string {
	g := n.core.groups[key]
	if g == nil {
		return fmt.Sprintf("%x: none", n.id[:2])
	}
	s := fmt.Sprintf("%x: count %d watch %v keeper %x seeking %v ver %d viewed %v entries %d shown %d peers %d told/promises %d", n.id[:2], g.count, g.watch, g.keeper[:2], g.seeking, g.version, g.viewed, len(g.entries), len(g.shown), len(n.core.peers), len(g.promises))
	if k := g.kept; k != nil {
		s += fmt.Sprintf(" KEPT ready %v self %v attached %d co [", k.ready, k.self, len(k.attached))
		for _, p := range k.co {
			s += fmt.Sprintf("%x ", p.id[:2])
		}
		s += "] recs "
		for _, r := range k.members {
			s += fmt.Sprintf("%x:v%d c%d by %x ", r.node[:2], r.version, r.count, r.by[:2])
		}
	}
	return s
}

func (n *simNode) dumpPromises() {
	s := n.sim
	fmt.Println("waits:", n.dump(demo), n.announced)
	fmt.Println("waits:", n.dump(other))
	for _, q := range s.alive() {
		for _, p := range q.core.peers {
			o := p.outbox
			if len(o.owed)+len(o.unacked) > 0 {
				fmt.Printf("  %x to %x owed %d unacked %d\n", q.id[:2], p.id[:2], len(o.owed), len(o.unacked))
			}
		}
		for _, k := range q.core.table {
			if len(k.awaited) > 0 {
				fmt.Printf("  %x awaits %x %v: %+v dialling %d\n", q.id[:2], k.id[:2], s.byID[k.id].alive, *k, q.core.dialling)
			}
		}
		for _, g := range q.core.groups {
			if g.kept != nil {
				fmt.Printf("  %x %s hearing %d ready %v watchers %d\n", q.id[:2], g.Name, len(g.kept.hearing), g.kept.ready, len(g.kept.watchers))
				for p, w := range g.kept.watchers {
					if len(w.promises) > 0 {
						fmt.Printf("   watcher %x promises %d begun %v", p.id[:2], len(w.promises), w.begun)
					}
				}
			}
		}
	}
	for _, q := range s.nodes {
		if !q.alive {
			continue
		}
		fmt.Printf("  %x late %d\n", q.id[:2], len(q.core.late))
	}
}
