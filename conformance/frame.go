package conformance

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A sender is who sends a frame.
type sender int

const (
	fromClient sender = 1 << iota
	fromNode
	fromBoth = fromClient | fromNode
)

// An op is a row of the table of relay.md 3.2.
type op struct {
	name   string
	code   byte
	from   sender
	fields []kind
}

// A kind is the type of a field.
type kind byte

const (
	aNumber  kind = 'n' // 32 bits
	anID     kind = 'i' // 64 bits
	aCode    kind = 'c' // of relay.md 7
	aBudget  kind = 'b' // of relay.md 5.2
	aCredit  kind = 'k' // kind of credit, relay.md 5.5
	aString  kind = 's'
	aPayload kind = 'p'
	aMap     kind = 'm' // strings to strings
	limitMap kind = 'l' // strings to integers
	aList    kind = 'a' // of strings
	free     kind = '?' // beyond the table
)

// ops is relay.md 3.2.
var ops = []op{
	{"hello", 0x00, fromClient, []kind("snnsma")},
	{"welcome", 0x01, fromNode, []kind("nlma")},
	{"refuse", 0x02, fromNode, []kind("cs")},
	{"ping", 0x03, fromBoth, []kind("i")},
	{"pong", 0x04, fromBoth, []kind("i")},
	{"credit", 0x05, fromClient, []kind("kn")},
	{"drain", 0x06, fromClient, nil},
	{"drained", 0x07, fromNode, nil},
	{"leaving", 0x08, fromNode, nil},
	{"bye", 0x09, fromBoth, []kind("cs")},
	{"done", 0x0a, fromNode, []kind("ics")},
	{"request", 0x10, fromBoth, []kind("isbmp")},
	{"reply", 0x11, fromBoth, []kind("icsmp")},
	{"cancel", 0x12, fromBoth, []kind("i")},
	{"broadcast", 0x20, fromBoth, []kind("ismp")},
	{"publish", 0x21, fromClient, []kind("ismp")},
	{"subscribe", 0x22, fromClient, []kind("is")},
	{"unsubscribe", 0x23, fromClient, []kind("is")},
	{"event", 0x24, fromNode, []kind("smp")},
	{"open", 0x30, fromBoth, []kind("isbnm")},
	{"opened", 0x31, fromBoth, []kind("inm")},
	{"data", 0x32, fromBoth, []kind("inp")},
	{"allow", 0x33, fromBoth, []kind("in")},
	{"finish", 0x34, fromBoth, []kind("i")},
	{"abort", 0x35, fromBoth, []kind("ics")},
}

// codes are the codes of relay.md 7.1 by their names.
var codes = map[string]uint64{
	"ok": 0, "timeout": 1, "no-service": 2, "overloaded": 3, "lost": 4, "failed": 5, "cancelled": 6, "closing": 7, "invalid": 8,
	"version": 16, "feature": 17, "name": 18, "limit": 19, "not-ready": 20,
	"malformed": 32, "too-large": 33, "unexpected": 34, "handshake-timeout": 35, "unresponsive": 36,
}

// creditKinds are the kinds of relay.md 5.5.
var creditKinds = map[string]uint64{"requests": 0, "broadcasts": 1, "events": 2}

// noDeadline is the budget that never runs out. relay.md 5.2.
const noDeadline = uint64(1<<32 - 1)

func opNamed(name string) (op, bool) {
	for _, o := range ops {
		if o.name == name {
			return o, true
		}
	}
	return op{}, false
}

func opOf(code byte) op {
	for _, o := range ops {
		if o.code == code {
			return o
		}
	}
	return op{name: fmt.Sprintf("op %#02x", code), code: code}
}

// check tells whether a frame that was received is one of relay.md 3 from that side.
func (o op) check(from sender, fields []any) error {
	if o.from&from == 0 {
		return fmt.Errorf("%s, which this side does not send (3.2)", o.name)
	}
	if len(fields) < len(o.fields) {
		return fmt.Errorf("%s with %d fields, want %d (3.4)", o.name, len(fields), len(o.fields))
	}
	for i, k := range o.fields {
		if !k.holds(fields[i]) {
			return fmt.Errorf("%s: field %d is %s (3.3)", o.name, i+1, short(fields[i]))
		}
	}
	return nil
}

// holds tells whether v is a value of the type.
func (k kind) holds(v any) bool {
	switch v := v.(type) {
	case uint64:
		return k == anID || k == aCode && v <= 255 || strings.ContainsRune("nbk", rune(k)) && v < 1<<32
	case string:
		return k == aString && utf8.ValidString(v)
	case []byte:
		return k == aPayload
	case []any:
		return k == aList
	case map[string]any:
		for _, element := range v {
			_, text := element.(string)
			if text != (k == aMap) {
				return false
			}
		}
		return k == aMap || k == limitMap
	}
	return false
}

// describe draws a frame for people.
func describe(o op, fields []any) string {
	parts := []string{o.name}
	for i, f := range fields {
		if i < len(o.fields) && o.fields[i] == aCode {
			if name := codeName(f); name != "" {
				parts = append(parts, name)
				continue
			}
		}
		parts = append(parts, short(f))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func codeName(v any) string {
	for name, code := range codes {
		if v == code {
			return name
		}
	}
	return ""
}

// short draws a value, cut when it is long.
func short(v any) string {
	const most = 48
	switch v := v.(type) {
	case []byte:
		if len(v) > most {
			return fmt.Sprintf("%q… (%d bytes)", v[:most], len(v))
		}
		return fmt.Sprintf("%q", v)
	case string:
		if len(v) > most {
			return fmt.Sprintf("%q… (%d bytes)", v[:most], len(v))
		}
		return fmt.Sprintf("%q", v)
	case nil:
		return "nil"
	case map[string]any:
		var parts []string
		for _, key := range sortedKeys(v) {
			parts = append(parts, short(key)+": "+short(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, element := range v {
			parts = append(parts, short(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}
