package patterns

import (
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	maxOwed   = 65536            // outcomes that wait for room on a link; more are counted as unsent
	owedUntil = 10 * time.Second // then one is dropped, and counted
)

// An outcome is what to tell once a request has ended: the one who asked, and
// the member that it is no longer wanted.
type outcome struct {
	asker  *party // nil: nobody wants to know
	reply  Reply  // its id is the asker's
	refuse reason // instead of the reply, the request goes back
	cancel *party // who has it; nil: nobody
	id     uint64 // that the member knows it by
	flow   uint32
	ran    bool // it has left a session
}

// A debt is an outcome that a link had no room for. Links end sooner or later,
// but a request without a deadline would wait until then.
type debt struct {
	to    link.ID
	flow  uint32
	reply Reply // id and code only
	until time.Duration
}

// deliver tells an outcome. r is the request, for a refusal.
func (n *Node) deliver(t *link.Turn, o *outcome, r Request) {
	switch {
	case o.asker == nil:
	case o.refuse != 0:
		n.sendRefusal(t, o, r)
	case o.asker.sink != nil:
		if len(o.reply.Text) == 0 {
			o.reply.Text = textOf(o.reply.Code)
		}
		o.asker.sink.Reply(t, o.reply)
	default:
		n.sendReply(t, o)
	}
	switch {
	case o.cancel == nil:
	case o.cancel.sink != nil:
		o.cancel.sink.Cancel(t, o.id)
	default:
		head := n.heads.Get().(*[]byte)
		*head = appendCancel((*head)[:0], o.id)
		// What has no room is no loss: the member ends it at its deadline.
		_ = n.overlay.Send(t, o.cancel.node, uint64(o.flow), *head, nil)
		n.heads.Put(head)
	}
	if o.ran {
		n.left()
	}
}

// textOf explains a code that this node has given.
func textOf(c Code) []byte {
	switch c {
	case CodeTimeout:
		return []byte(textTimeout)
	case CodeNoService:
		return []byte(textNoService)
	case CodeOverloaded:
		return []byte(textOverloaded)
	case CodeLost:
		return []byte(textLost)
	case CodeCancelled:
		return []byte(textCancelled)
	}
	return nil
}

// offer offers the request of s to its member. An error means that it
// provably was not taken.
func (n *Node) offer(t *link.Turn, s *step) error {
	if s.to.sink != nil {
		if !s.to.sink.Request(t, s.request) {
			return errNoCredit
		}
		return nil
	}
	head := n.heads.Get().(*[]byte)
	*head = appendRequest((*head)[:0], s.flow, s.request)
	err := n.overlay.Send(t, s.to.node, uint64(s.flow), *head, s.request.Payload)
	n.heads.Put(head)
	return err
}

// sendReply sends a reply to another node. If there is no room for it, the
// requester learns that it cannot have it.
func (n *Node) sendReply(t *link.Turn, o *outcome) {
	head := n.heads.Get().(*[]byte)
	*head = appendReply((*head)[:0], o.reply)
	err := n.overlay.Send(t, o.asker.node, uint64(o.flow), *head, o.reply.Payload)
	n.heads.Put(head)
	if err != nil {
		n.owe(o, CodeLost)
	}
}

// sendRefusal returns a request to the node that it came from.
func (n *Node) sendRefusal(t *link.Turn, o *outcome, r Request) {
	head := n.heads.Get().(*[]byte)
	*head = appendRefusal((*head)[:0], o.reply.ID, o.refuse, r.Headers)
	err := n.overlay.Send(t, o.asker.node, uint64(o.flow), *head, r.Payload)
	n.heads.Put(head)
	if err != nil {
		n.owe(o, CodeOverloaded)
	}
}

// owe has Run send a code instead of an outcome that had no room.
func (n *Node) owe(o *outcome, c Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers[o.asker.node] != o.asker { // the link is gone
		return
	}
	if len(n.owed) >= maxOwed {
		n.dropped.unsent.Add(1)
		return
	}
	n.owed = append(n.owed, debt{o.asker.node, o.flow, Reply{ID: o.reply.ID, Code: c}, n.now() + owedUntil})
	n.kick()
}

// settleDebts tries to send what is owed.
func (n *Node) settleDebts(t *link.Turn) {
	n.mu.Lock()
	owed := n.owed
	n.owed = nil
	n.mu.Unlock()
	for _, d := range owed {
		if n.overlay.Send(t, d.to, uint64(d.flow), appendReply(nil, d.reply), nil) == nil {
			continue
		}
		n.mu.Lock()
		switch {
		case n.peers[d.to] == nil: // the link is gone
		case n.now() > d.until:
			n.dropped.unsent.Add(1)
		default:
			n.owed = append(n.owed, d)
		}
		n.mu.Unlock()
	}
}
