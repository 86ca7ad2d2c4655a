package patterns

import (
	"github.com/project-iris/iris/stack/link"
)

// Returned takes back a message to a node that could not be reached. A request goes to
// another member, a message to a group around the node; an outcome is dropped and counted:
// who asked for it is gone. It implements overlay.Handler.
func (n *Node) Returned(to link.ID, msg []byte) {
	if len(msg) == 0 {
		return
	}
	var t link.Turn
	switch kind(msg[0]) {
	case kindRequest:
		n.returnedRequest(&t, to, msg)
	case kindReply, kindRefusal:
		n.dropped.unsent.Add(1)
	case kindBroadcast, kindEvent:
		n.returnedCast(&t, to, msg)
	}
	t.End()
}

func (n *Node) returnedRequest(t *link.Turn, to link.ID, msg []byte) {
	r, _, err := parseRequest(msg)
	if err != nil {
		return
	}
	n.mu.Lock()
	e := n.at(to, r.ID)
	if e == nil { // it has ended meanwhile
		n.mu.Unlock()
		return
	}
	s := n.again(e, r, false)
	n.mu.Unlock()
	n.dispatch(t, s)
}

func (n *Node) returnedCast(t *link.Turn, to link.ID, msg []byte) {
	n.dropped.unsent.Add(1)
	c, err := parseCast(msg)
	if err != nil || !c.tree || c.only(to) {
		return
	}
	var way detour
	n.mu.Lock()
	if g := n.find(&c); g != nil {
		way = n.redirectReturned(g, &c, hop{to, c.arc})
	}
	n.mu.Unlock()
	n.take(t, []detour{way})
}

// at yields the request of an id that is with another node, or nil.
func (n *Node) at(node link.ID, id uint64) *entry {
	p, e := n.peers[node], n.slab.find(id)
	if p == nil || e == nil || e.member == nil || e.member.at != p {
		return nil
	}
	return e
}

// Using tells whether requests that this node has from a peer, or has given it, have not
// ended, or a tunnel with it. It implements overlay.Handler.
func (n *Node) Using(peer link.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[peer]
	return n.tunnels.legs[peer] > 0 || p != nil && (len(p.asked) > 0 || p.running.head != nil)
}
