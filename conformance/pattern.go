package conformance

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A field of a frame in a case is a value, or one of these.
type (
	// anything matches every value.
	anything struct{}
	// A ref is the value that something had in an earlier step; the first
	// time that it is expected, it takes the value.
	ref string
	// A unique is a name that a run made of it.
	unique string
	// between matches integers.
	between struct{ low, high uint64 }
	// many matches what any of them matches.
	many []any
)

// A pattern is an op and what its fields are to be.
type pattern struct {
	op     op
	fields []any
}

func (f pattern) String() string { return describe(f.op, f.fields) }

// String draws them as they are written.
func (anything) String() string  { return "_" }
func (r ref) String() string     { return "$" + string(r) }
func (u unique) String() string  { return "name:" + string(u) }
func (b between) String() string { return fmt.Sprintf("between %d %d", b.low, b.high) }

// parseFrame reads [op, field, …]; "..." at its end is for people: fields that are
// not given are never looked at.
func parseFrame(n *yaml.Node) (pattern, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return pattern{}, fmt.Errorf("a frame is [op, field, …]")
	}
	o, known := opNamed(n.Content[0].Value)
	if !known {
		return pattern{}, fmt.Errorf("unknown op %q", n.Content[0].Value)
	}
	f := pattern{op: o}
	for i, field := range n.Content[1:] {
		if field.Value == "..." && i == len(n.Content)-2 {
			break
		}
		k := free
		if i < len(o.fields) {
			k = o.fields[i]
		}
		v, err := parseField(k, field)
		if err != nil {
			return pattern{}, fmt.Errorf("%s: field %d: %w", o.name, i+1, err)
		}
		f.fields = append(f.fields, v)
	}
	return f, nil
}

// parseField reads a value of a type, or what stands for one.
func parseField(k kind, n *yaml.Node) (any, error) {
	switch {
	case n.Tag == "!!null":
		return nil, nil
	case n.Value == "_" && n.Style == 0:
		return anything{}, nil
	}
	switch k {
	case aString, aPayload:
		return parseText(k, n)
	case aMap, limitMap:
		return parseFieldMap(k, n)
	case aList:
		if n.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("want a list")
		}
		list := []any{}
		for _, element := range n.Content {
			v, err := parseText(aString, element)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case free:
		return parseFree(n)
	}
	return parseNumber(k, n)
}

// parseFree reads a field beyond the table.
func parseFree(n *yaml.Node) (any, error) {
	switch {
	case n.Tag == "!!int":
		return parseNumber(anID, n)
	case n.Kind == yaml.MappingNode:
		return parseFieldMap(aMap, n)
	case n.Kind == yaml.SequenceNode:
		return parseField(aList, n)
	}
	return parseText(aString, n)
}

func parseNumber(k kind, n *yaml.Node) (any, error) {
	text := n.Value
	if n.Kind != yaml.ScalarNode {
		return nil, fmt.Errorf("want an integer")
	}
	if name, found := strings.CutPrefix(text, "$"); found {
		return ref(name), nil
	}
	if rest, found := strings.CutPrefix(text, "between "); found {
		var b between
		if _, err := fmt.Sscanf(rest, "%d %d", &b.low, &b.high); err != nil || b.low > b.high {
			return nil, fmt.Errorf("want between LOW HIGH, not %q", text)
		}
		return b, nil
	}
	if code, known := codes[text]; known && k == aCode {
		return code, nil
	}
	if number, known := creditKinds[text]; known && k == aCredit {
		return number, nil
	}
	if text == "forever" && k == aBudget {
		return noDeadline, nil
	}
	v, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return nil, fmt.Errorf("want an integer, not %q", text)
	}
	return v, nil
}

// parseText reads a string or a payload: text, {bytes: n, of: text} or {hex: digits}.
func parseText(k kind, n *yaml.Node) (any, error) {
	var text string
	switch n.Kind {
	case yaml.ScalarNode:
		if name, found := strings.CutPrefix(n.Value, "name:"); found && k == aString {
			return unique(name), nil
		}
		text = n.Value
	case yaml.MappingNode:
		b, err := parseBytes(n)
		if err != nil {
			return nil, err
		}
		text = string(b)
	default:
		return nil, fmt.Errorf("want a text")
	}
	if k == aPayload {
		return []byte(text), nil
	}
	return text, nil
}

// parseBytes reads {bytes: n, of: text}, {hex: digits} or {text: text}.
func parseBytes(n *yaml.Node) ([]byte, error) {
	var g struct {
		Bytes int
		Of    string
		Hex   string
		Text  string
	}
	if err := decodeStrict(n, &g); err != nil {
		return nil, err
	}
	switch {
	case g.Bytes > 0 && g.Bytes <= 64<<20 && g.Of != "":
		return []byte(strings.Repeat(g.Of, g.Bytes/len(g.Of)+1)[:g.Bytes]), nil
	case g.Hex != "":
		return parseHex(g.Hex)
	case g.Text != "":
		return []byte(g.Text), nil
	}
	return nil, fmt.Errorf("want {bytes: n, of: text}, {hex: digits} or {text: text}")
}

func parseHex(digits string) ([]byte, error) {
	return hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(digits))
}

func parseFieldMap(k kind, n *yaml.Node) (any, error) {
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("want a map")
	}
	m := map[string]any{}
	for i := 0; i < len(n.Content); i += 2 {
		element := aString
		if k == limitMap {
			element = aNumber
		}
		v, err := parseField(element, n.Content[i+1])
		if err != nil {
			return nil, err
		}
		m[n.Content[i].Value] = v
	}
	return m, nil
}

// resolve gives the fields that stand for something their values.
func (p *player) resolve(fields []any) []any {
	out := make([]any, len(fields))
	for i, f := range fields {
		switch f := f.(type) {
		case ref:
			out[i] = p.refs[f]
		case unique:
			out[i] = string(f) + p.unique
		default:
			out[i] = f
		}
	}
	return out
}

// compare tells in what a frame is not as wanted. It takes the values of refs.
func (p *player) compare(want pattern, o op, fields []any) error {
	if o.code != want.op.code {
		return fmt.Errorf("%s came, want %s", describe(o, fields), want)
	}
	if len(fields) < len(want.fields) {
		return fmt.Errorf("%s came, want %s", describe(o, fields), want)
	}
	took := map[ref]any{}
	for i, w := range want.fields {
		if !p.matches(w, fields[i], took) {
			return fmt.Errorf("%s came, want %s: field %d is %s", describe(o, fields), want, i+1, short(fields[i]))
		}
	}
	for name, v := range took {
		p.refs[name] = v
	}
	return nil
}

func (p *player) matches(want, got any, took map[ref]any) bool {
	switch w := want.(type) {
	case anything:
		return true
	case between:
		n, ok := got.(uint64)
		return ok && n >= w.low && n <= w.high
	case unique:
		return got == string(w)+p.unique
	case ref:
		if known, isKnown := p.refs[w]; isKnown {
			return reflect.DeepEqual(known, got)
		}
		took[w] = got
		return true
	case many:
		for _, one := range w {
			if p.matches(one, got, took) {
				return true
			}
		}
		return false
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok || len(m) != len(w) {
			return false
		}
		for key, v := range w {
			if element, there := m[key]; !there || !p.matches(v, element, took) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}
