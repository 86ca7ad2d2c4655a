package conformance

import (
	"bytes"
	"fmt"
	"sync"
	"time"
)

// A direction is that of a line of a trace, as the suite sees it.
type direction string

const (
	sent     direction = "→"
	received direction = "←"
	noted    direction = "·" // neither: what the player or the subject did
)

const (
	maxTrace = 400 // lines; the first ones are kept
	maxBytes = 96  // of a line that are shown
)

// A Line of a trace is bytes that went over a connection, or something else that happened.
type Line struct {
	At   time.Duration `json:"at"`            // since the case began, in nanoseconds
	Conn string        `json:"conn"`          // name of the connection
	Way  string        `json:"way"`           // → the suite sent, ← it received, · something else
	Hex  string        `json:"hex,omitempty"` // the first 96 bytes
	Size int           `json:"size"`          // of all
	Text string        `json:"text"`          // decoded
}

// String draws the line.
func (l Line) String() string {
	text := fmt.Sprintf("%9.3f ms  %-8s %s %s", float64(l.At.Microseconds())/1000, l.Conn, l.Way, l.Text)
	if l.Hex != "" {
		text += "\n" + fmt.Sprintf("%26s", "") + l.Hex
	}
	return text
}

// An event is a line before it is drawn.
type event struct {
	at    time.Duration
	conn  string
	way   direction
	bytes []byte
	size  int
	text  string
	err   error
}

// A trace is what went over the connections of a play. Safe for concurrent use.
type trace struct {
	began time.Time

	mu     sync.Mutex // guards the fields below
	events []event
	lost   int
}

func (t *trace) add(conn string, way direction, b []byte, err error) {
	if b == nil && err == nil {
		return
	}
	kept := b
	if len(b) > 4096 {
		kept = b[:4096:4096]
	}
	t.append(event{conn: conn, way: way, bytes: append([]byte(nil), kept...), size: len(b), err: err})
}

func (t *trace) note(conn, text string) { t.append(event{conn: conn, way: noted, text: text}) }

func (t *trace) append(e event) {
	e.at = time.Since(t.began)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) >= maxTrace {
		t.lost++
		return
	}
	t.events = append(t.events, e)
}

// lines draws the trace.
func (t *trace) lines() []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []Line
	for _, e := range t.events {
		lines = append(lines, e.line())
	}
	if t.lost > 0 {
		lines = append(lines, Line{Way: string(noted), Text: fmt.Sprintf("… and %d more", t.lost)})
	}
	return lines
}

func (e event) line() Line {
	l := Line{At: e.at, Conn: e.conn, Way: string(e.way), Size: e.size, Text: e.text}
	if len(e.bytes) > 0 {
		l.Hex = fmt.Sprintf("% x", e.bytes[:min(len(e.bytes), maxBytes)])
		if e.size > maxBytes {
			l.Hex += fmt.Sprintf(" … (%d bytes)", e.size)
		}
		l.Text = decoded(e.bytes, e.size)
	}
	if e.err != nil {
		l.Text += " ends: " + e.err.Error()
	}
	return l
}

// decoded draws the frames in b.
func decoded(b []byte, size int) string {
	if len(b) < size {
		return "a frame that is long"
	}
	text := ""
	for r := bytes.NewReader(b); r.Len() > 0; {
		_, content, err := readFrame(r)
		if err != nil {
			return text + "no whole frame"
		}
		o, fields, err := parseContent(content)
		if err != nil {
			return text + "no frame of relay.md"
		}
		text += describe(o, fields) + " "
	}
	return text
}
