package wire

import "unicode/utf8"

// Request asks a cluster for a reply; the node gives it to a service in the
// same form: [op, id, cluster, budget ms, headers, payload]. relay.md 5.1.
type Request struct {
	ID      uint64 // chosen by the sender, unique among its unanswered ones
	Cluster []byte
	Budget  uint32 // ms that are left for the reply; NoDeadline: no limit
	Headers Headers
	Payload []byte
}

// Reply is the outcome of a request: [op, id, code, text, headers, payload].
// relay.md 5.4.
type Reply struct {
	ID      uint64 // of the request
	Code    Code
	Text    []byte // for people; empty with CodeOK
	Headers Headers
	Payload []byte
}

// AppendRequest appends a frame with r. Its fields are not checked:
// Limits.CheckRequest does that.
func AppendRequest(b []byte, r Request) []byte {
	b = appendBinLen(b, r.contentSize())
	b = append(b, 0x96, byte(OpRequest))
	b = appendUint(b, r.ID)
	b = appendStr(b, r.Cluster)
	b = appendUint(b, uint64(r.Budget))
	b = appendHeaders(b, r.Headers)
	b = appendBinLen(b, len(r.Payload))
	return append(b, r.Payload...)
}

// ParseRequest parses a request whose slices alias content.
func ParseRequest(content []byte) (r Request, err error) {
	p, further := open(content, OpRequest, 5)
	r.ID = p.uint()
	r.Cluster = p.str()
	r.Budget = p.uint32()
	r.Headers = p.headers()
	r.Payload = p.bin()
	if err := p.close(further); err != nil {
		return Request{}, err
	}
	return r, nil
}

// Size is what AppendRequest adds, in bytes.
func (r Request) Size() int { return binSize(r.contentSize()) }

func (r Request) contentSize() int {
	return 2 + uintSize(r.ID) + strSize(len(r.Cluster)) + uintSize(uint64(r.Budget)) + headersSize(r.Headers) + binSize(len(r.Payload))
}

// AppendReply appends a frame with r. A text that is too long or not UTF-8 is
// mended as Text does; the other fields are not checked: Limits.CheckReply does
// that.
func AppendReply(b []byte, r Reply) []byte {
	if len(r.Text) > MaxText || !utf8.Valid(r.Text) {
		r.Text = Text(r.Text)
	}
	b = appendBinLen(b, r.contentSize())
	b = append(b, 0x96, byte(OpReply))
	b = appendUint(b, r.ID)
	b = appendUint(b, uint64(r.Code))
	b = appendStr(b, r.Text)
	b = appendHeaders(b, r.Headers)
	b = appendBinLen(b, len(r.Payload))
	return append(b, r.Payload...)
}

// ParseReply parses a reply whose slices alias content.
func ParseReply(content []byte) (r Reply, err error) {
	p, further := open(content, OpReply, 5)
	r.ID = p.uint()
	r.Code = p.code()
	r.Text = p.str()
	r.Headers = p.headers()
	r.Payload = p.bin()
	if err := p.close(further); err != nil {
		return Reply{}, err
	}
	return r, nil
}

// Size is an upper bound of what AppendReply adds, in bytes; exact for a text
// that needs no mending.
func (r Reply) Size() int { return binSize(r.contentSize()) }

func (r Reply) contentSize() int {
	return 2 + uintSize(r.ID) + uintSize(uint64(r.Code)) + strSize(len(r.Text)) + headersSize(r.Headers) + binSize(len(r.Payload))
}

// AppendCancel appends the news that the outcome of a request is no longer
// wanted: [op, id]. relay.md 5.8.
func AppendCancel(b []byte, id uint64) []byte { return appendNumber(b, OpCancel, id) }

// ParseCancel parses a cancel.
func ParseCancel(content []byte) (id uint64, err error) { return parseNumber(content, OpCancel) }
