package node

// SelfCluster is the name under which a node itself serves the clients attached
// to it. The request `status` is answered with a Status in JSON (relay.md).
const SelfCluster = "$node"

// Status is what a node tells about itself. Its JSON form is what
// `iris status -json` prints.
type Status struct {
	Network       string            `json:"network"`
	Node          string            `json:"node"`    // id, hex
	Address       string            `json:"address"` // UDP address; empty in developer mode
	Version       string            `json:"version"`
	Converged     bool              `json:"converged"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Keys          *Keys             `json:"keys,omitempty"` // nil in developer mode
	Peers         []Peer            `json:"peers"`
	Clusters      []Cluster         `json:"clusters"`
	Topics        int               `json:"topics"` // that have subscribers, on any node
	Clients       []Client          `json:"clients"`
	Refused       map[string]uint64 `json:"refused"` // probes and handshakes turned away, by reason
	Probes        Probes            `json:"probes"`
}

// A Peer is a node that this node has a link to.
type Peer struct {
	Node        string  `json:"node"`
	Address     string  `json:"address"`
	RoundTripMS float64 `json:"round_trip_ms"`
	Key         string  `json:"key"` // that its certificate is signed with, as Keys names them; empty if it is just going
	Link        Link    `json:"link"`
}

// A Link is how the link to a peer does, since it came up. Bytes and packets are
// those of QUIC.
type Link struct {
	LeastRoundTripMS float64 `json:"least_round_trip_ms"`
	MessagesSent     uint64  `json:"messages_sent"`
	MessagesReceived uint64  `json:"messages_received"`
	BytesSent        uint64  `json:"bytes_sent"` // what was sent again counts again
	BytesReceived    uint64  `json:"bytes_received"`
	PacketsSent      uint64  `json:"packets_sent"`
	PacketsReceived  uint64  `json:"packets_received"`
	PacketsLost      uint64  `json:"packets_lost"`      // of those sent
	CongestionWindow uint64  `json:"congestion_window"` // bytes that may be on their way
}

// A Cluster is a group of services that this node serves or has sent to.
type Cluster struct {
	Name    string   `json:"name"`
	Members []Member `json:"members"`
}

// A Member is a node that hosts members of a cluster.
type Member struct {
	Node  string `json:"node"`
	Count int    `json:"count"`
}

// A Client is an application attached to this node.
type Client struct {
	Conn          uint64            `json:"conn"`
	Cluster       string            `json:"cluster"`       // empty for a plain client
	Unanswered    int               `json:"unanswered"`    // its own requests
	Running       int               `json:"running"`       // requests it was given
	Subscriptions int               `json:"subscriptions"` // topics
	Tunnels       int               `json:"tunnels"`
	Dropped       map[string]uint64 `json:"dropped,omitempty"` // what it was too slow for, by kind: a slow consumer
}

// Probes counts the datagrams of discovery.
type Probes struct {
	Sent     uint64 `json:"sent"`
	Answered uint64 `json:"answered"` // probes of others that got a reply
	Hits     uint64 `json:"hits"`     // replies to own probes
	Called   uint64 `json:"called"`   // calls sent by multicast
	Heard    uint64 `json:"heard"`    // calls of other nodes, which are probed for it
}

// Members is how many members the named cluster has, as far as the node knows.
func (s Status) Members(cluster string) int {
	for _, c := range s.Clusters {
		if c.Name == cluster {
			n := 0
			for _, m := range c.Members {
				n += m.Count
			}
			return n
		}
	}
	return 0
}

// RefusedTotal is how many probes and handshakes were turned away.
func (s Status) RefusedTotal() uint64 {
	var n uint64
	for _, count := range s.Refused {
		n += count
	}
	return n
}
