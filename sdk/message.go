package iris

import (
	"fmt"
	"maps"

	"github.com/project-iris/iris/spec/wire"
)

// A Message is a broadcast or an event with all that travels with it. It is the
// handler's to keep.
type Message struct {
	Payload []byte            // may be empty
	Headers map[string]string // nil: none
}

// A MessageOption adds to what Broadcast, Publish or Tunnel send.
type MessageOption func(*sending)

// A sending is what options add to a message.
type sending struct{ headers map[string]string }

// WithHeaders sends headers along, such as a trace context: at most 64, and of
// the size that the node allows, otherwise nothing is sent and the error is
// ErrTooLarge. The map is not kept. Given several times, the headers add up, and
// the later value of a name counts.
func WithHeaders(headers map[string]string) MessageOption {
	return func(s *sending) {
		if s.headers == nil {
			s.headers = headers
			return
		}
		s.headers = maps.Clone(s.headers)
		maps.Copy(s.headers, headers)
	}
}

// headersOf encodes what the options of a message say.
func headersOf(opts []MessageOption) (wire.Headers, error) {
	if len(opts) == 0 {
		return nil, nil
	}
	var s sending
	for _, opt := range opts {
		opt(&s)
	}
	return encodeHeaders(s.headers)
}

// encodeHeaders checks their number: relay.md 5.3. Their size is for fits to check.
func encodeHeaders(m map[string]string) (wire.Headers, error) {
	if len(m) > wire.MaxHeaders {
		return nil, fmt.Errorf("%w: %d headers, the limit is %d", ErrTooLarge, len(m), wire.MaxHeaders)
	}
	return wire.EncodeHeaders(m), nil
}

// decodeHeaders makes a map of encoded headers; nil for none.
func decodeHeaders(h wire.Headers) map[string]string {
	if len(h) == 0 {
		return nil
	}
	m := make(map[string]string, h.Len())
	for name, value := range h.All() {
		m[name] = value
	}
	return m
}
