package overlay

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var scaleFlag = flag.Int("nodes", 0, "how many nodes TestScale simulates")

func TestScaleQuick(t *testing.T) {
	n := 300
	if *scaleFlag > 0 {
		n = *scaleFlag
	}
	s := newSim(t, 1)
	s.latency = func(_, _ *simNode) time.Duration {
		return time.Millisecond + time.Duration(s.rng.Int64N(int64(200*time.Microsecond)))
	}
	began := time.Now()
	var groups []Group
	for i := range 500 {
		groups = append(groups, Group{KindCluster, fmt.Sprint("group", i)})
	}
	for len(s.nodes) < n {
		add := min(max(4, len(s.nodes)/10), n-len(s.nodes))
		for range add {
			x := s.start()
			if len(s.nodes) > 1 {
				x.offer(s.nodes[s.rng.IntN(len(s.nodes)-1)])
			}
			for range 4 {
				g := groups[s.rng.IntN(500)]
				x.step(watch{g})
				x.announce(g, 1)
			}
		}
		s.run(200 * time.Millisecond)
	}
	fmt.Println("grown", s.now.Sub(time.Unix(1_000_000, 0)), time.Since(began), "dials", s.dials, s.dialFails)
	report := func() {
		var links, table, need, close_, tells, keeps []int
		for _, x := range s.nodes {
			links = append(links, len(x.core.peers))
			table = append(table, len(x.core.table))
			nd, tl, kp := 0, 0, 0
			for _, p := range x.core.peers {
				if p.needed {
					nd++
				}
				if len(p.tells)+len(p.told) > 0 {
					tl++
				}
				if len(p.keeps) > 0 {
					kp++
				}
			}
			need = append(need, nd)
			tells = append(tells, tl)
			keeps = append(keeps, kp)
			_ = close_
		}
		ok := 0
		for _, x := range s.nodes {
			if s.agreedOne(x) {
				ok++
			}
		}
		unconfirmed := 0
		for _, x := range s.nodes {
			unconfirmed += len(x.announced)
		}
		fmt.Printf("t %v real %v links p50 %d p99 %d max %d needed %d attached %d keeps %d table %d/%d agreed %d of %d unconfirmed %d\n", s.now.Sub(time.Unix(1_000_000, 0)), time.Since(began).Round(time.Millisecond), median(links), quantile(links, .99), quantile(links, 1), median(need), median(tells), median(keeps), median(table), quantile(table, 1), ok, n, unconfirmed)
	}
	report()
	for range 8 {
		for _, x := range s.nodes {
			x.sent = 0
			x.messages = 0
		}
		d0 := s.dials
		s.run(10 * time.Second)
		var sent, msgs []int
		for _, x := range s.nodes {
			sent = append(sent, x.sent/10)
			msgs = append(msgs, x.messages/10)
		}
		report()
		fmt.Printf("   bytes/s p50 %d p99 %d messages/s p50 %d dials %d\n", median(sent), quantile(sent, .99), median(msgs), s.dials-d0)
	}
}

func (s *sim) agreedOne(n *simNode) bool {
	for key, g := range n.core.groups {
		if !g.watch {
			continue
		}
		want := 0
		for _, o := range s.hosting[key] {
			if o.alive && o != n && o.history[key][len(o.history[key])-1] > 0 {
				want++
			}
		}
		if len(n.views[key]) != want {
			return false
		}
	}
	return true
}
