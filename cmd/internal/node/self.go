package node

import (
	"encoding/json"
	"fmt"
	"time"
)

// serveSelf answers a request to SelfCluster.
func (n *Node) serveSelf(request []byte) ([]byte, error) {
	if string(request) != "status" {
		return nil, fmt.Errorf("the node answers `status`, not %.40q", request)
	}
	return json.Marshal(n.status())
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
	peerKeys := n.peerKeys(&s)
	for _, p := range n.overlay.Peers() {
		s.Peers = append(s.Peers, Peer{p.ID.String(), p.Addr.String(), float64(p.RTT) / float64(time.Millisecond), peerKeys[p.ID]})
	}
	n.addTraffic(&s)
	return s
}
