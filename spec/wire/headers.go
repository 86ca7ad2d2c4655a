package wire

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// MaxHeaders is the greatest number of headers of a message. relay.md 5.3.
const MaxHeaders = 64

// Headers are a message's headers as encoded: a MessagePack map of at most
// MaxHeaders strings to strings. Empty: none. They are forwarded as they are.
// Only EncodeHeaders and the parsers of this package make valid ones.
type Headers []byte

// All yields the headers in their order. Where a name occurs twice, the last
// one counts: relay.md 5.3. The strings are copies.
func (h Headers) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if len(h) == 0 {
			return
		}
		p := parser{b: h}
		for range p.pairs() {
			name, value := p.str(), p.str()
			if p.err != nil || !yield(string(name), string(value)) {
				return
			}
		}
	}
}

// Len is the number of headers.
func (h Headers) Len() int {
	if len(h) == 0 {
		return 0
	}
	p := parser{b: h}
	return p.pairs()
}

// EncodeHeaders encodes a map, sorted by name; nil for an empty one. What is
// not UTF-8 becomes U+FFFD. Whether there are too many is for
// Limits.CheckRequest and Limits.CheckReply to say.
func EncodeHeaders(m map[string]string) Headers {
	if len(m) == 0 {
		return nil
	}
	return Headers(appendStringMap(nil, m))
}

// ParseHeaders checks headers that come from elsewhere than a frame, such as
// from another node. What it returns aliases b.
func ParseHeaders(b []byte) (Headers, error) {
	if len(b) == 0 {
		return nil, nil
	}
	p := parser{b: b}
	h := p.headers()
	return h, p.close(0)
}

// headersSize is what appendHeaders adds.
func headersSize(h Headers) int { return max(len(h), 1) }

func appendHeaders(b []byte, h Headers) []byte {
	if len(h) == 0 {
		return append(b, 0x80)
	}
	return append(b, h...)
}

// appendStringMap appends a map of strings, sorted by name.
func appendStringMap(b []byte, m map[string]string) []byte {
	b = appendMapLen(b, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendText(b, name)
		b = appendText(b, m[name])
	}
	return b
}

// appendText appends a string whose origin is not known to be UTF-8.
func appendText(b []byte, s string) []byte { return appendStr(b, strings.ToValidUTF8(s, "\uFFFD")) }

// headers reads a map of strings and returns its bytes as they are.
func (p *parser) headers() Headers {
	start := p.b
	n := p.pairs()
	if n > MaxHeaders {
		p.fail("5.3", "too many headers")
		return nil
	}
	for range 2 * n {
		p.str()
	}
	if p.err != nil || n == 0 {
		return nil
	}
	size := len(start) - len(p.b)
	return Headers(start[:size:size])
}

// stringMap reads a map of at most maxEntries strings; nil for an empty one.
func (p *parser) stringMap() map[string]string {
	n := p.pairs()
	if n > maxEntries {
		p.fail("2.4", "too many entries")
		return nil
	}
	var m map[string]string
	for range n {
		name, value := p.str(), p.str()
		if p.err != nil {
			return nil
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[string(name)] = string(value)
	}
	return m
}
