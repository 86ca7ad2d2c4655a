package node

import "time"

// A Diagnosis is what a node tells `iris doctor` (the request `doctor` to
// SelfCluster): what it knows about whether and why it has no peers.
type Diagnosis struct {
	Network       string            `json:"network"`
	Node          string            `json:"node"`
	Address       string            `json:"address"` // UDP address; empty in developer mode
	Version       string            `json:"version"`
	Dev           bool              `json:"dev"`
	UptimeSeconds float64           `json:"uptime_seconds"`
	Peers         int               `json:"peers"`
	Subnets       []Subnet          `json:"subnets"`
	Join          []Join            `json:"join"`
	Probes        Probes            `json:"probes"`
	Failed        map[string]uint64 `json:"failed"`  // probes that could not be sent, by reason
	Refused       map[string]uint64 `json:"refused"` // probes and handshakes turned away, by reason
	Strangers     []Stranger        `json:"strangers"`
}

// A Join is a host named by -join and where it was probed.
type Join struct {
	Host    string   `json:"host"`
	Targets []string `json:"targets"`
	Error   string   `json:"error,omitempty"` // of the last lookup of its name
}

// A Stranger is a node of another network that has probed this one. Its word is not proven.
type Stranger struct {
	Address    string  `json:"address"`
	SameKey    bool    `json:"same_key"` // then its network has another name, otherwise another key
	SecondsAgo float64 `json:"seconds_ago"`
}

// diagnosis collects what discovery knows.
func (n *Node) diagnosis() Diagnosis {
	var s Status
	s.Refused = map[string]uint64{}
	n.addTraffic(&s)
	d := Diagnosis{
		Network: n.cfg.Network, Node: n.id.String(), Address: n.address(), Version: Version, Dev: n.cfg.Dev,
		UptimeSeconds: time.Since(n.began).Seconds(), Peers: len(n.overlay.Peers()),
		Subnets: []Subnet{},
		Join:    []Join{}, Probes: s.Probes, Failed: map[string]uint64{}, Refused: s.Refused, Strangers: []Stranger{},
	}
	prober := n.network.prober
	if prober == nil {
		return d
	}
	d.Subnets = append(d.Subnets, n.where.Load().looked...)
	d.Failed = prober.Counts().Failed
	for _, seed := range prober.Seeds() {
		j := Join{Host: seed.Seed.String(), Targets: []string{}}
		for _, t := range seed.Targets {
			j.Targets = append(j.Targets, t.String())
		}
		if seed.Err != nil {
			j.Error = seed.Err.Error()
		}
		d.Join = append(d.Join, j)
	}
	for _, x := range prober.Strangers() {
		d.Strangers = append(d.Strangers, Stranger{x.Addr.String(), x.SameKey, time.Since(x.Seen).Seconds()})
	}
	return d
}
