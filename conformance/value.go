package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// The suite reads and writes MessagePack with code of its own, so that a
// mistake of the codec it judges cannot hide. A value is nil, bool, uint64,
// int64, string, []byte, []any or map[string]any; floats and extensions do not
// occur in relay.md.

// appendValue appends the shortest form of v.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case int:
		return appendValue(b, uint64(v))
	case uint64:
		switch {
		case v < 128:
			return append(b, byte(v))
		case v <= math.MaxUint8:
			return append(b, 0xcc, byte(v))
		case v <= math.MaxUint16:
			return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
		case v <= math.MaxUint32:
			return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
		}
		return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
	case string:
		return append(appendHead(b, len(v), 0xa0, 32, 0xd9), v...)
	case []byte:
		return append(appendHead(b, len(v), 0, 0, 0xc4), v...)
	case nil:
		return append(b, 0xc0)
	case bool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case map[string]any:
		b = appendCount(b, len(v), 0x80, 0xde)
		for _, key := range sortedKeys(v) {
			b = appendValue(appendValue(b, key), v[key])
		}
		return b
	case []any:
		b = appendCount(b, len(v), 0x90, 0xdc)
		for _, element := range v {
			b = appendValue(b, element)
		}
		return b
	}
	panic(fmt.Sprintf("conformance: a case holds a %T", v))
}

// appendCount appends the head of a map or an array of less than 65,536 elements.
func appendCount(b []byte, n int, short, wide byte) []byte {
	if n < 16 {
		return append(b, short|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, wide), uint16(n))
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// appendHead appends the head of a string (with a short form) or a bin (without).
func appendHead(b []byte, n int, short byte, below int, wide byte) []byte {
	switch {
	case n < below:
		return append(b, short|byte(n))
	case n <= math.MaxUint8:
		return append(b, wide, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, wide+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, wide+2), uint32(n))
}

// appendFrame appends the frame of an op with its fields.
func appendFrame(b []byte, op byte, fields ...any) []byte {
	content := appendValue(nil, append([]any{uint64(op)}, fields...))
	return append(appendHead(b, len(content), 0, 0, 0xc4), content...)
}

var errValue = errors.New("no MessagePack that relay.md allows")

// parseValue reads one value and returns what follows it.
func parseValue(b []byte, depth int) (any, []byte, error) {
	if len(b) == 0 || depth == 0 {
		return nil, nil, errValue
	}
	c, rest := b[0], b[1:]
	switch {
	case c < 0x80:
		return uint64(c), rest, nil
	case c < 0x90:
		return parseMap(rest, uint64(c&0x0f), depth)
	case c < 0xa0:
		return parseArray(rest, uint64(c&0x0f), depth)
	case c < 0xc0:
		return parseString(rest, uint64(c&0x1f))
	case c == 0xc0:
		return nil, rest, nil
	case c == 0xc2 || c == 0xc3:
		return c == 0xc3, rest, nil
	}
	return parseWide(c, rest, depth)
}

// parseWide reads a value whose length or number has bytes of its own.
func parseWide(c byte, b []byte, depth int) (any, []byte, error) {
	type kind struct {
		width int
		parse func(b []byte, n uint64) (any, []byte, error)
	}
	number := func(b []byte, n uint64) (any, []byte, error) { return n, b, nil }
	bin := func(b []byte, n uint64) (any, []byte, error) {
		if n > uint64(len(b)) {
			return nil, nil, errValue
		}
		return b[:n], b[n:], nil
	}
	text := func(b []byte, n uint64) (any, []byte, error) { return parseString(b, n) }
	array := func(b []byte, n uint64) (any, []byte, error) { return parseArray(b, n, depth) }
	pairs := func(b []byte, n uint64) (any, []byte, error) { return parseMap(b, n, depth) }
	k, known := map[byte]kind{
		0xc4: {1, bin}, 0xc5: {2, bin}, 0xc6: {4, bin},
		0xcc: {1, number}, 0xcd: {2, number}, 0xce: {4, number}, 0xcf: {8, number},
		0xd9: {1, text}, 0xda: {2, text}, 0xdb: {4, text},
		0xdc: {2, array}, 0xdd: {4, array}, 0xde: {2, pairs}, 0xdf: {4, pairs},
	}[c]
	if !known || len(b) < k.width {
		return nil, nil, errValue
	}
	var n uint64
	for _, digit := range b[:k.width] {
		n = n<<8 | uint64(digit)
	}
	return k.parse(b[k.width:], n)
}

func parseString(b []byte, n uint64) (any, []byte, error) {
	if n > uint64(len(b)) {
		return nil, nil, errValue
	}
	return string(b[:n]), b[n:], nil
}

func parseArray(b []byte, n uint64, depth int) (any, []byte, error) {
	if n > uint64(len(b)) {
		return nil, nil, errValue
	}
	list := make([]any, 0, n)
	for range n {
		v, rest, err := parseValue(b, depth-1)
		if err != nil {
			return nil, nil, err
		}
		list, b = append(list, v), rest
	}
	return list, b, nil
}

func parseMap(b []byte, n uint64, depth int) (any, []byte, error) {
	if n > uint64(len(b)) {
		return nil, nil, errValue
	}
	m := make(map[string]any, n)
	for range n {
		key, rest, err := parseValue(b, depth-1)
		if err != nil {
			return nil, nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, nil, errValue
		}
		if m[name], b, err = parseValue(rest, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return m, b, nil
}
