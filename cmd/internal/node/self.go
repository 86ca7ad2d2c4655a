package node

import (
	"encoding/json"
	"fmt"
	"time"
)

// serveSelf answers a request to SelfCluster.
func (n *Node) serveSelf(request []byte) ([]byte, error) {
	switch string(request) {
	case "status":
		return json.Marshal(n.status())
	case "doctor":
		return json.Marshal(n.diagnosis())
	}
	return nil, fmt.Errorf("the node answers `status` and `doctor`, not %.40q", request)
}

// status collects what the layers know.
func (n *Node) status() Status {
	s := Status{
		Network:       n.cfg.Network,
		Node:          n.id.String(),
		Address:       n.address(),
		Version:       Version,
		UptimeSeconds: time.Since(n.began).Seconds(),
		Peers:         []Peer{},
		Clusters:      []Cluster{},
		Clients:       []Client{},
		Refused:       map[string]uint64{},
	}
	select {
	case <-n.ready:
		s.Converged = true
	default:
	}
	for _, p := range n.overlay.Peers() {
		s.Peers = append(s.Peers, Peer{p.ID.String(), p.Addr.String(), float64(p.RTT) / float64(time.Millisecond)})
	}
	n.addTraffic(&s)
	return s
}
