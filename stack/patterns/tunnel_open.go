package patterns

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxTunnels     = 65536 // ends of tunnels on this node; one whose sides are both here counts twice
	maxPortTunnels = 16384 // of one session
	maxDials       = 1024  // streams being opened at once
	tunnelID       = 1 << 63

	textTunnelRules  = "the tunnel was used against its rules"
	textTunnelBroken = "the tunnel is broken; what was sent last may or may not have arrived"
	textTunnelClosed = "the session of the other side is gone"
	textTunnelLimit  = "too many tunnels are open"
	textDraining     = "the node is closing"
)

// tunnelTable is what a node knows of its tunnels together. Guarded by the node's mutex.
type tunnelTable struct {
	ends    int
	lastID  uint64
	dialing map[*opening]context.CancelFunc
	legs    map[link.ID]int // streams of tunnels, by peer; from the dial on
}

// hold counts a stream in.
func (tt *tunnelTable) hold(peer link.ID) { tt.legs[peer]++ }

// release counts it out.
func (tt *tunnelTable) release(peer link.ID) {
	if tt.legs[peer]--; tt.legs[peer] == 0 {
		delete(tt.legs, peer)
	}
}

// endDials has those who dial give up.
func (tt *tunnelTable) endDials() {
	for _, cancel := range tt.dialing {
		cancel()
	}
}

// An opening is the search for a member that takes a tunnel. Guarded by the
// node's mutex, but for what does not change.
type opening struct {
	tunnel   *Tunnel
	group    *group
	open     Open          // its slices are the opening's own
	deadline time.Duration // since the node's epoch; none if negative
	timer    *time.Timer   // nil: no deadline
	member   *member       // that is asked at this moment
	tried    []*party      // refused it, or could not be reached
	busy     bool          // one of them would have members
	waits    bool          // for the first view of the group
}

// left is the budget that is left.
func (o *opening) left(now time.Duration) time.Duration {
	if o.deadline < 0 {
		return -1
	}
	return max(0, o.deadline-now)
}

// Open asks a member of o.Cluster for a tunnel, another one if that provably has
// not taken it. What comes of it is told once, within the budget, by s.Opened
// or s.Aborted, possibly before Open returns. What the session does before Opened
// is told the other side then; but it may not send Data.
func (p *Port) Open(t *link.Turn, o Open, s TunnelSink) *Tunnel {
	n := p.node
	end := &Tunnel{node: n, owner: &p.party, sink: s}
	end.state.in = o.Window
	switch {
	case len(o.Cluster) == 0 || len(o.Cluster) > math.MaxUint16:
		end.fail(t, CodeInvalid, "the name of the cluster is empty or too long", false, false)
		return end
	case o.Window > maxAllowed:
		end.fail(t, CodeInvalid, textTunnelRules, false, false)
		return end
	case o.Budget == 0:
		end.fail(t, CodeTimeout, textTimeout, false, false)
		return end
	}
	n.mu.Lock()
	code, text := n.beginOpening(end, o)
	n.mu.Unlock()
	if code != CodeOK {
		end.fail(t, code, text, false, false)
		return end
	}
	n.seek(t, end)
	return end
}

// beginOpening counts in the side that asks. CodeOK: it may go on.
func (n *Node) beginOpening(p *Tunnel, o Open) (Code, string) {
	now := n.now()
	switch {
	case p.owner.closed || n.draining || n.ended:
		return CodeClosing, textDraining
	case !n.hasRoom(p.owner):
		return CodeOverloaded, textTunnelLimit
	}
	g := n.open(o.Cluster)
	if !n.use(g, now) {
		return CodeOverloaded, "tunnels and requests to too many clusters are in flight"
	}
	n.register(p)
	g.inflight++
	o.Cluster, o.Headers = []byte(g.name), bytes.Clone(o.Headers)
	p.opening = &opening{tunnel: p, group: g, open: o, deadline: -1}
	if o.Budget > 0 && now+o.Budget > now { // it may be too long to be added
		p.opening.deadline = now + o.Budget
		p.opening.timer = time.AfterFunc(o.Budget, p.expire)
	}
	return CodeOK, ""
}

// expire ends a tunnel that was not answered in time.
func (p *Tunnel) expire() {
	p.mu.Lock()
	late := p.state.phase == phaseOpening
	if late {
		p.state.phase = phaseEnded
		p.end = ending{tellSink: true, tellOther: true, code: CodeTimeout, text: []byte(textTimeout)}
	}
	p.mu.Unlock()
	if late {
		var t link.Turn
		p.settle(&t)
		t.End()
	}
}

// hasRoom is whether a session, and the node, may have one more end of a tunnel.
func (n *Node) hasRoom(owner *party) bool {
	return n.tunnels.ends < maxTunnels && len(owner.tunnels) < maxPortTunnels
}

func (n *Node) register(p *Tunnel) {
	if p.owner.tunnels == nil {
		p.owner.tunnels = make(map[*Tunnel]bool)
	}
	p.owner.tunnels[p] = true
	n.tunnels.ends++
	n.running.Add(1)
}

// unregister counts out an end that has ended.
func (n *Node) unregister(p *Tunnel) {
	n.mu.Lock()
	n.endOpening(p)
	known := p.owner.tunnels[p]
	if known {
		delete(p.owner.tunnels, p)
		n.tunnels.ends--
	}
	n.mu.Unlock()
	if known {
		n.left()
	}
}

// answered ends the search: the tunnel is open.
func (n *Node) answered(p *Tunnel) {
	n.mu.Lock()
	n.endOpening(p)
	n.mu.Unlock()
}

func (n *Node) endOpening(p *Tunnel) {
	o := p.opening
	if o == nil {
		return
	}
	p.opening = nil
	if o.timer != nil {
		o.timer.Stop()
	}
	if cancel := n.tunnels.dialing[o]; cancel != nil {
		cancel()
	}
	if o.waits {
		o.group.waiting = slices.DeleteFunc(o.group.waiting, func(w *opening) bool { return w == o })
	}
	if o.member != nil {
		o.member.inflight--
	}
	o.group.inflight--
}

// refused goes on with the next member after one has not taken the tunnel. busy
// is whether that one has members at all.
func (n *Node) refused(t *link.Turn, p *Tunnel, busy bool) {
	n.mu.Lock()
	n.pass(p, busy)
	n.mu.Unlock()
	n.seek(t, p)
}

func (n *Node) pass(p *Tunnel, busy bool) {
	o := p.opening
	if o == nil || o.member == nil {
		return
	}
	o.tried = append(o.tried, o.member.at)
	o.busy = o.busy || busy
	o.member.pass += refusedLag // others first, for a while
	o.member.inflight--
	o.member = nil
}

// seek asks members, until one may take the tunnel or none is left.
func (n *Node) seek(t *link.Turn, p *Tunnel) {
	for {
		n.mu.Lock()
		o := p.opening
		if o == nil || o.waits || o.member != nil { // it has ended, or somebody else goes on
			n.mu.Unlock()
			return
		}
		m := n.choose(o.group, o.tried, false)
		if m == nil {
			code, text := n.unfound(o)
			n.mu.Unlock()
			if code != CodeOK {
				p.fail(t, code, text, false, false)
			}
			return
		}
		o.member = m
		m.inflight++
		if m.at.sink == nil {
			dials := n.dial(o, m.at.node)
			n.mu.Unlock()
			if !dials {
				p.fail(t, CodeOverloaded, textTunnelLimit, false, false)
			}
			return
		}
		open := o.open
		open.Budget = o.left(n.now())
		end := n.newEnd(m, p, &open)
		n.mu.Unlock()
		if end != nil && n.ask(t, p, end, open) {
			return
		}
		n.mu.Lock()
		n.pass(p, true)
		n.mu.Unlock()
	}
}

// unfound is what happens to an opening that no member can be chosen for. CodeOK:
// it waits for the first view of the group.
func (n *Node) unfound(o *opening) (Code, string) {
	switch {
	case !o.group.viewed && len(o.tried) < maxTries && len(o.group.waiting) < maxParked:
		o.group.waiting = append(o.group.waiting, o)
		o.waits = true
		return CodeOK, ""
	case o.busy || !o.group.viewed:
		return CodeOverloaded, textOverloaded
	}
	return CodeNoService, textNoService
}

// resume goes on with openings that have waited for a view.
func (n *Node) resume(t *link.Turn, waiting []*opening) {
	for _, o := range waiting {
		n.mu.Lock()
		o.waits = false
		n.mu.Unlock()
		n.seek(t, o.tunnel)
	}
}

// newEnd makes the end of a tunnel that a session of this node is asked for, or nil if
// there are too many. It gives the open its id.
func (n *Node) newEnd(m *member, other side, o *Open) *Tunnel {
	if !n.hasRoom(m.at) {
		return nil
	}
	n.tunnels.lastID++
	o.ID = tunnelID | n.tunnels.lastID
	end := &Tunnel{node: n, owner: m.at, other: other}
	end.state = tunnelState{phase: phaseOffered, out: o.Window}
	n.register(end)
	return end
}

// ask offers the tunnel of p to a session of this node. False: it did not take it,
// and another one may be asked.
func (n *Node) ask(t *link.Turn, p, end *Tunnel, o Open) bool {
	p.mu.Lock()
	wanted := p.state.phase == phaseOpening
	if wanted {
		p.other = end
	}
	p.mu.Unlock()
	if !wanted {
		n.dismiss(end)
		return true
	}
	if end.owner.sink.Tunnel(t, end, o) || !n.dismiss(end) {
		return true
	}
	p.mu.Lock()
	if p.other == end {
		p.other = nil
	}
	p.mu.Unlock()
	return false
}

// dismiss forgets an end that the session has not taken. False: it has ended by
// itself meanwhile, and the other side knows.
func (n *Node) dismiss(end *Tunnel) bool {
	end.mu.Lock()
	taken := end.state.phase != phaseOffered
	if !taken {
		end.state.phase, end.end.done = phaseEnded, true
	}
	end.mu.Unlock()
	if taken {
		return false
	}
	n.unregister(end)
	return true
}

// closeTunnels ends the tunnels of a session that is gone.
func (n *Node) closeTunnels(t *link.Turn, owner *party) {
	n.mu.Lock()
	ends := slices.Collect(maps.Keys(owner.tunnels))
	n.mu.Unlock()
	for _, p := range ends {
		p.Abort(t, CodeLost, []byte(textTunnelClosed))
	}
}
