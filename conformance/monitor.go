package conformance

import (
	"bytes"
	"fmt"
)

const (
	dataOverhead = 64        // relay.md 10.5
	maxCredit    = 1<<31 - 1 // relay.md 5.5, 10.5
	maxText      = 16_384    // relay.md 5.6
	nodeTunnel   = 1 << 63   // relay.md 10.1
)

// A monitor follows one connection of a client, and finds what no client may do,
// whatever the case is about. It answers pings and counts what the client
// allows the node. It is guarded by the player's mu.
type monitor struct {
	cluster  string
	limits   map[string]uint64
	greeted  bool
	draining bool
	over     bool // it has said bye
	mute     bool // pings are the script's to answer
	shortest error
	credit   [3]uint64           // that the node has
	requests map[uint64]bool     // of the client, unanswered
	given    map[uint64]bool     // to the service, unanswered
	tunnels  map[uint64]*passage // by id
	used     map[uint64]bool     // ids of tunnels that were
}

// A passage is a tunnel of the client.
type passage struct {
	open     bool
	finished bool  // by the client
	done     bool  // by the node
	theirs   int64 // bytes that the client may send
	ours     int64 // bytes that the node may send
}

// defaultLimits are those of relay.md 4.1.
func defaultLimits() map[string]uint64 {
	return map[string]uint64{"frame": 1_114_112, "payload": 1_048_576, "headers": 16_384, "name": 255,
		"requests": 4_096, "topics": 65_536, "tunnels": 16_384, "chunk": 65_536}
}

func newMonitor() *monitor {
	return &monitor{limits: defaultLimits(), requests: map[uint64]bool{}, given: map[uint64]bool{}, tunnels: map[uint64]*passage{}, used: map[uint64]bool{}}
}

// came takes a frame of the client whose fields have been checked. What it
// returns is to be answered at once.
func (m *monitor) came(o op, fields []any, frame []byte) (answer []byte, err error) {
	if m.shortest == nil && !bytes.Equal(frame, appendFrame(nil, o.code, fields...)) {
		m.shortest = fmt.Errorf("%s is not in the shortest form (3.3)", describe(o, fields))
	}
	if len(fields) < len(o.fields) {
		return nil, nil // that has been told
	}
	switch {
	case m.over:
		return nil, fmt.Errorf("%s behind a bye (6.4)", o.name)
	case !m.greeted && o.name != "hello":
		return nil, fmt.Errorf("%s before the hello (2.1)", o.name)
	case m.greeted && o.name == "hello":
		return nil, fmt.Errorf("a second hello (6.1)")
	case uint64(len(frame)) > m.limits["frame"]+5:
		return nil, fmt.Errorf("a frame of %d bytes, the limit is %d (4.2)", len(frame), m.limits["frame"])
	}
	switch o.name {
	case "hello":
		m.greeted, m.cluster = true, fields[3].(string)
		return nil, checkHello(fields)
	case "ping":
		if m.mute {
			return nil, nil
		}
		return appendFrame(nil, opNumber("pong"), fields[0]), nil
	case "bye":
		m.over = true
	case "credit":
		return nil, m.grant(fields[0].(uint64), fields[1].(uint64))
	case "drain":
		if m.cluster == "" || m.draining {
			return nil, fmt.Errorf("a drain of what is no service, or a second one (6.3)")
		}
		m.draining = true
	case "broadcast", "publish": // 8.3: one with an id wants an outcome
		if id := fields[0]; id != uint64(0) && !m.mute {
			return appendFrame(nil, opNumber("done"), id, codes["ok"], ""), nil
		}
	case "request", "reply", "cancel":
		return nil, m.request(o, fields)
	case "open", "opened", "data", "allow", "finish", "abort":
		return nil, m.tunnel(o, fields)
	}
	return nil, nil
}

func opNumber(name string) byte {
	o, known := opNamed(name)
	if !known {
		panic("conformance: no op " + name)
	}
	return o.code
}

func checkHello(fields []any) error {
	switch {
	case fields[0] != "iris":
		return fmt.Errorf("the magic is %s (2.1)", short(fields[0]))
	case fields[1].(uint64) > fields[2].(uint64):
		return fmt.Errorf("the lowest version exceeds the highest (2.2)")
	case len(fields[4].(map[string]any)) > 64 || len(fields[5].([]any)) > 64:
		return fmt.Errorf("more than 64 options or features (2.4)")
	}
	return nil
}

func (m *monitor) grant(kind, n uint64) error {
	switch {
	case kind > 2 || kind < 2 && m.cluster == "":
		return fmt.Errorf("credit of kind %d (5.5)", kind)
	case m.credit[kind]+n > maxCredit:
		return fmt.Errorf("more than %d credit in all (5.5)", maxCredit)
	}
	m.credit[kind] += n
	return nil
}

func (m *monitor) request(o op, fields []any) error {
	id := fields[0].(uint64)
	switch o.name {
	case "request":
		if m.requests[id] {
			return fmt.Errorf("request %d while one of that id is unanswered (5.1)", id)
		}
		if len(fields[3].(map[string]any)) > 64 {
			return fmt.Errorf("more than 64 headers (5.3)")
		}
		m.requests[id] = true
	case "reply":
		if code := fields[1].(uint64); code != 0 && code != 5 {
			return fmt.Errorf("a reply of code %d (5.4)", code)
		}
		if len(fields[2].(string)) > maxText {
			return fmt.Errorf("a text of %d bytes (5.6)", len(fields[2].(string)))
		}
		if !m.given[id] {
			return nil
		}
		delete(m.given, id)
	}
	return nil
}

// tunnel follows relay.md 10.9 from the client's side.
func (m *monitor) tunnel(o op, fields []any) error {
	id := fields[0].(uint64)
	t := m.tunnels[id]
	switch {
	case o.name == "open" && (id&nodeTunnel != 0 || t != nil):
		return fmt.Errorf("an open with the id %d (10.1)", id)
	case o.name == "open":
		if fields[3].(uint64) > maxCredit {
			return fmt.Errorf("a window of %d (10.5)", fields[3])
		}
		m.tunnels[id] = &passage{ours: int64(fields[3].(uint64))}
		return nil
	case t == nil: // it has crossed the end
		if !m.used[id] {
			return fmt.Errorf("%s for a tunnel that never was", o.name)
		}
		return nil
	}
	switch o.name {
	case "opened":
		if t.open || id&nodeTunnel == 0 || fields[1].(uint64) > maxCredit {
			return fmt.Errorf("an opened that is not allowed (10.2)")
		}
		t.open, t.ours = true, int64(fields[1].(uint64))
	case "data":
		return m.data(t, fields)
	case "allow":
		if t.ours += int64(fields[1].(uint64)); t.ours > maxCredit || !t.open {
			return fmt.Errorf("an allow that is not allowed (10.5)")
		}
	case "finish":
		if t.finished || !t.open {
			return fmt.Errorf("a finish that is not allowed (10.6)")
		}
		t.finished = true
		m.settle(id)
	case "abort":
		m.forget(id)
	}
	return nil
}

func (m *monitor) data(t *passage, fields []any) error {
	payload := fields[2].([]byte)
	switch last := fields[1].(uint64); {
	case !t.open:
		return fmt.Errorf("data before the tunnel is open (10.2)")
	case t.finished:
		return fmt.Errorf("data behind a finish (10.6)")
	case last > 1:
		return fmt.Errorf("data whose last is %d (10.4)", last)
	case uint64(len(payload)) > m.limits["chunk"]:
		return fmt.Errorf("a chunk of %d bytes (10.4)", len(payload))
	}
	if t.theirs -= int64(len(payload)) + dataOverhead; t.theirs < 0 {
		return fmt.Errorf("data that costs %d bytes more than is allowed (10.5)", -t.theirs)
	}
	return nil
}

// settle forgets a tunnel that both sides have finished.
func (m *monitor) settle(id uint64) {
	if t := m.tunnels[id]; t != nil && t.finished && t.done {
		m.forget(id)
	}
}

func (m *monitor) forget(id uint64) {
	delete(m.tunnels, id)
	m.used[id] = true
}

// goes takes note of a frame of the node that is about to be sent.
func (m *monitor) goes(f pattern, fields []any) {
	n := func(i int) uint64 { v, _ := fields[i].(uint64); return v }
	if len(fields) < len(f.op.fields) || len(fields) == 0 {
		return
	}
	id := n(0)
	t := m.tunnels[id]
	switch name := f.op.name; {
	case name == "request":
		m.use(0)
		m.given[id] = true
	case name == "broadcast":
		m.use(1)
	case name == "event":
		m.use(2)
	case name == "reply" || name == "done":
		delete(m.requests, id)
	case name == "cancel":
		delete(m.given, id)
	case name == "open":
		m.tunnels[id] = &passage{theirs: int64(n(3))}
	case t == nil:
	case name == "opened":
		t.open, t.theirs = true, int64(n(1))
	case name == "allow":
		t.theirs += int64(n(1))
	case name == "data":
		payload, _ := fields[2].([]byte)
		t.ours -= int64(len(payload)) + dataOverhead
	case name == "finish":
		t.done = true
		m.settle(id)
	case name == "abort":
		m.forget(id)
	}
}

func (m *monitor) use(kind int) {
	if m.credit[kind] > 0 {
		m.credit[kind]--
	}
}

// room tells whether the node may send a frame, by credit and allowance.
func (m *monitor) room(f pattern, fields []any) bool {
	switch f.op.name {
	case "request":
		return m.credit[0] > 0
	case "broadcast":
		return m.credit[1] > 0
	case "event":
		return m.credit[2] > 0
	case "data":
		id, _ := fields[0].(uint64)
		payload, _ := fields[2].([]byte)
		t := m.tunnels[id]
		return t == nil || t.ours >= int64(len(payload))+dataOverhead
	}
	return true
}
