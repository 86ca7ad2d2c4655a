package node

import (
	"maps"

	"github.com/project-iris/iris/stack/overlay"
)

// addTraffic adds what the overlay knows, and what relay, link and discovery have
// counted.
func (n *Node) addTraffic(s *Status) {
	for _, g := range n.overlay.Groups() {
		if g.Kind != overlay.KindCluster {
			s.Topics++
			continue
		}
		cluster := Cluster{Name: g.Name, Members: []Member{}}
		for _, m := range g.Members {
			cluster.Members = append(cluster.Members, Member{m.Node.String(), m.Count})
		}
		s.Clusters = append(s.Clusters, cluster)
	}
	for _, c := range n.relay.Clients() {
		s.Clients = append(s.Clients, Client(c))
	}
	if n.network.transport != nil {
		maps.Copy(s.Refused, n.network.transport.Refused())
	}
	if n.network.prober != nil {
		counts := n.network.prober.Counts()
		s.Probes = Probes{counts.Sent, counts.Answered, counts.Hits, counts.Called, counts.Heard}
		for reason, refused := range counts.Refused {
			s.Refused["probe-"+reason] += refused
		}
	}
}
