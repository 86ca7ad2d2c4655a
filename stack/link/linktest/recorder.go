package linktest

import (
	"fmt"
	"sync"

	"github.com/project-iris/iris/stack/link"
)

// A Recorder is a link.Handler that keeps what happens and can be asked for it.
// The functions, where set, are called in addition; set them before Run. It also
// checks the order that link.Handler promises and keeps violations. It is safe
// for concurrent use.
type Recorder struct {
	OnControl func(c *link.Conn, msg []byte)
	OnMessage func(t *link.Turn, c *link.Conn, msg []byte)
	OnStream  func(c *link.Conn, s *link.Stream) link.StreamHandler // if nil, streams are refused

	mu       sync.Mutex // guards the fields below
	live     map[link.ID]*link.Conn
	state    map[*link.Conn]string
	ups      int
	downs    []error
	control  []string
	messages []string
	broken   []string
}

// Up implements link.Handler.
func (r *Recorder) Up(c *link.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live, r.state = make(map[link.ID]*link.Conn), make(map[*link.Conn]string)
	}
	if r.state[c] != "" {
		r.violation("Up of a link that is %s", r.state[c])
	}
	if r.live[c.Peer()] != nil {
		r.violation("Up of a second link of %s", c.Peer())
	}
	r.live[c.Peer()], r.state[c] = c, "up"
	r.ups++
}

// Control implements link.Handler.
func (r *Recorder) Control(c *link.Conn, msg []byte) {
	r.note(c, "Control", &r.control, msg)
	if r.OnControl != nil {
		r.OnControl(c, msg)
	}
}

// Message implements link.Handler.
func (r *Recorder) Message(t *link.Turn, c *link.Conn, msg []byte) {
	r.note(c, "Message", &r.messages, msg)
	if r.OnMessage != nil {
		r.OnMessage(t, c, msg)
	}
}

// Stream implements link.Handler.
func (r *Recorder) Stream(c *link.Conn, s *link.Stream) link.StreamHandler {
	if r.OnStream == nil {
		return nil
	}
	return r.OnStream(c, s)
}

// Down implements link.Handler.
func (r *Recorder) Down(c *link.Conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state[c] != "up" {
		r.violation("Down of a link that is %q", r.state[c])
	}
	r.state[c] = "down"
	delete(r.live, c.Peer())
	r.downs = append(r.downs, err)
}

func (r *Recorder) note(c *link.Conn, what string, to *[]string, msg []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state[c] != "up" {
		r.violation("%s of a link that is %q", what, r.state[c])
	}
	*to = append(*to, string(msg))
}

// violation notes a broken promise. mu is held.
func (r *Recorder) violation(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// Link is the live link to a peer, nil if there is none.
func (r *Recorder) Link(id link.ID) *link.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[id]
}

// Links is the number of live links.
func (r *Recorder) Links() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

// Ups counts the links that came up so far.
func (r *Recorder) Ups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ups
}

// Downs gives the errors of the links that went down so far, in order.
func (r *Recorder) Downs() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.downs...)
}

// Controls gives the control messages so far, in order.
func (r *Recorder) Controls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.control...)
}

// Messages gives the messages so far, in the order of their arrival.
func (r *Recorder) Messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.messages...)
}

// Violations tells which promises of link.Handler were broken.
func (r *Recorder) Violations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.broken...)
}
