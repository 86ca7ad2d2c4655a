package node

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/project-iris/iris/stack/link"
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
	peerKeys := n.peerKeys(&s)
	for _, p := range n.overlay.Peers() {
		s.Peers = append(s.Peers, Peer{p.ID.String(), p.Addr.String(), partsOfMS(p.RTT), peerKeys[p.ID], n.link(p.ID)})
	}
	n.addTraffic(&s)
	return s
}

// link tells how the link to a peer does; all zero if it has just ended.
func (n *Node) link(peer link.ID) Link {
	if n.network.transport == nil {
		return Link{}
	}
	h, _ := n.network.transport.Health(peer)
	return Link{
		LeastRoundTripMS: partsOfMS(h.MinRTT),
		MessagesSent:     h.MessagesSent,
		MessagesReceived: h.MessagesReceived,
		BytesSent:        h.BytesSent,
		BytesReceived:    h.BytesReceived,
		PacketsSent:      h.PacketsSent,
		PacketsReceived:  h.PacketsReceived,
		PacketsLost:      h.PacketsLost,
		CongestionWindow: h.CongestionWindow,
	}
}

// partsOfMS is d in milliseconds, with what is less than one.
func partsOfMS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
