// Package vectors holds the test vectors of the relay protocol, spec/relay.md,
// as data for every language (README.md beside this file), and typed access to
// them for Go. It does not use the codec that it judges. All functions are safe
// for concurrent use; each call returns a copy of the caller's own.
package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed *.json
var files embed.FS

// Hex is bytes that are written as hexadecimal digits, with spaces for people.
type Hex []byte

// UnmarshalText reads digits and spaces.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), " ", ""))
	*h = b
	return err
}

// MarshalText writes digits, two and two.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "% x", []byte(h)), nil }

// A Side is who sends or receives.
type Side string

// The sides of a connection.
const (
	Node   Side = "node"
	Client Side = "client"
	Both   Side = "both"
)

// A Frame is one whole, valid frame and what it means.
type Frame struct {
	Name      string `json:"name"`
	Clause    string `json:"clause"` // of relay.md
	From      Side   `json:"from"`   // who may send it
	Op        string `json:"op"`     // its name in relay.md 3.2
	Canonical bool   `json:"canonical"`
	Hex       Hex    `json:"hex"`
	Fields    Fields `json:"fields"`
}

// Fields are the fields of a frame. Those that its op does not have are zero,
// and so are those whose value is zero, empty, or missing from the JSON.
type Fields struct {
	Min      uint32            `json:"min"`
	Max      uint32            `json:"max"`
	Version  uint32            `json:"version"`
	Cluster  string            `json:"cluster"`
	Topic    string            `json:"topic"`
	Options  map[string]string `json:"options"`
	Features []string          `json:"features"`
	Limits   map[string]uint64 `json:"limits"` // with those that the frame leaves out
	Info     map[string]string `json:"info"`
	Token    uint64            `json:"token,string"`
	Kind     uint32            `json:"kind"`
	N        uint32            `json:"n"`
	ID       uint64            `json:"id,string"`
	Budget   uint32            `json:"budget"`
	Window   uint32            `json:"window"`
	Last     uint8             `json:"last"`
	Code     uint8             `json:"code"`
	Text     string            `json:"text"`
	Headers  map[string]string `json:"headers"`
	Payload  Hex               `json:"payload"`
}

// An Invalid is bytes that end a connection with a bye of a code.
type Invalid struct {
	Name   string `json:"name"`
	Clause string `json:"clause"` // that they break
	To     Side   `json:"to"`     // who must notice
	State  string `json:"state"`  // "opening": in place of the hello or its answer; "open": after them
	Role   string `json:"role"`   // "client" or "service": what the hello registered. Empty: either
	Code   string `json:"code"`   // name of the code of the bye, relay.md 7
	Hex    Hex    `json:"hex"`
}

// An Incomplete is bytes that are the begin of a frame: a receiver waits for
// more, and treats the end of the connection there as a break.
type Incomplete struct {
	Name   string `json:"name"`
	Clause string `json:"clause"`
	Hex    Hex    `json:"hex"`
}

// Frames lists valid frames.
func Frames() []Frame { return load[Frame]("frames.json") }

// Malformed lists frames that break relay.md by their bytes alone.
func Malformed() []Invalid { return load[Invalid]("malformed.json") }

// Misplaced lists frames that are well-formed and not allowed where they come.
func Misplaced() []Invalid { return load[Invalid]("misplaced.json") }

// Truncated lists begins of frames.
func Truncated() []Incomplete { return load[Incomplete]("incomplete.json") }

// load reads an embedded file. A broken one is a mistake that the tests of this
// package find; nothing else can fail.
func load[V any](name string) []V {
	data, err := files.ReadFile(name)
	var list []V
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		panic(fmt.Sprintf("vectors: %s: %v", name, err))
	}
	return list
}
