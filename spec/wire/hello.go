package wire

import "fmt"

// maxEntries bounds the entries of the maps and the array of a hello and a
// welcome. relay.md 2.4.
const maxEntries = 64

// Hello opens a connection: [op, magic, min, max, cluster, options, features].
// relay.md 2.1 to 2.5.
type Hello struct {
	Min, Max uint32 // versions that the client speaks
	Cluster  []byte // empty: a client
	Options  map[string]string
	Features []string
}

// Welcome answers a hello: [op, version, limits, info, features]. relay.md 2.6.
type Welcome struct {
	Version  uint32
	Limits   Limits
	Info     map[string]string
	Features []string
}

// AppendHello appends a frame with h.
func AppendHello(b []byte, h Hello) []byte {
	start := len(b)
	b = appendArray(b, 7)
	b = append(b, byte(OpHello))
	b = appendStr(b, Magic)
	b = appendUint(b, uint64(h.Min))
	b = appendUint(b, uint64(h.Max))
	b = appendStr(b, h.Cluster)
	b = appendStringMap(b, h.Options)
	b = appendStrings(b, h.Features)
	return frame(b, start)
}

// ParseHello parses a hello; its Cluster aliases content. Which of the versions
// is spoken is for the node to choose: CommonVersion.
func ParseHello(content []byte) (Hello, error) {
	p, further := open(content, OpHello, 6)
	if magic := p.str(); p.err == nil && string(magic) != Magic {
		p.fail("2.1", "the magic is not `iris`")
	}
	h := Hello{Min: p.uint32(), Max: p.uint32(), Cluster: p.str(), Options: p.stringMap(), Features: p.strings()}
	if p.err == nil && h.Min > h.Max {
		p.fail("2.2", "the lowest version exceeds the highest")
	}
	if err := p.close(further); err != nil {
		return Hello{}, err
	}
	return h, nil
}

// CommonVersion is the version to speak with the sender of h. Without one the
// error is an *Error of CodeVersion, to be told in a refuse. relay.md 2.2.
func (h Hello) CommonVersion() (uint32, error) {
	if h.Min <= Version && Version <= h.Max {
		return Version, nil
	}
	return 0, &Error{CodeVersion, "2.2", fmt.Sprintf("this node speaks version %d, the client %d to %d", Version, h.Min, h.Max)}
}

// AppendWelcome appends a frame with w.
func AppendWelcome(b []byte, w Welcome) []byte {
	start := len(b)
	b = appendArray(b, 5)
	b = append(b, byte(OpWelcome))
	b = appendUint(b, uint64(w.Version))
	b = appendLimits(b, w.Limits)
	b = appendStringMap(b, w.Info)
	b = appendStrings(b, w.Features)
	return frame(b, start)
}

// ParseWelcome parses a welcome. Limits that it does not tell are the defaults.
func ParseWelcome(content []byte) (Welcome, error) {
	p, further := open(content, OpWelcome, 4)
	w := Welcome{Version: p.uint32(), Limits: p.limits(), Info: p.stringMap(), Features: p.strings()}
	if err := p.close(further); err != nil {
		return Welcome{}, err
	}
	return w, nil
}

// AppendRefuse appends the refusal of a hello: [op, code, text]. relay.md 2.7.
func AppendRefuse(b []byte, code Code, text string) []byte {
	return appendReason(b, OpRefuse, code, text)
}

// ParseRefuse parses a refusal.
func ParseRefuse(content []byte) (Code, string, error) { return parseReason(content, OpRefuse) }

func appendStrings(b []byte, list []string) []byte {
	b = appendArray(b, len(list))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

// strings reads an array of at most maxEntries strings; nil for an empty one.
func (p *parser) strings() []string {
	n := p.array()
	if n > maxEntries {
		p.fail("2.4", "too many entries")
		return nil
	}
	var list []string
	for range n {
		s := p.str()
		if p.err != nil {
			return nil
		}
		list = append(list, string(s))
	}
	return list
}
