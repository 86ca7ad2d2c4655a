package wire

// AppendPing appends a ping: [op, token]. relay.md 6.2.
func AppendPing(b []byte, token uint64) []byte { return appendNumber(b, OpPing, token) }

// ParsePing parses a ping; a pong repeats its token.
func ParsePing(content []byte) (token uint64, err error) { return parseNumber(content, OpPing) }

// AppendPong appends the answer to a ping: [op, token]. relay.md 6.2.
func AppendPong(b []byte, token uint64) []byte { return appendNumber(b, OpPong, token) }

// ParsePong parses a pong.
func ParsePong(content []byte) (token uint64, err error) { return parseNumber(content, OpPong) }

// AppendCredit appends a grant of n more of a kind: [op, kind, n]. relay.md 5.5.
func AppendCredit(b []byte, kind, n uint32) []byte {
	b = appendBinLen(b, 2+uintSize(uint64(kind))+uintSize(uint64(n)))
	b = append(b, 0x93, byte(OpCredit))
	b = appendUint(b, uint64(kind))
	return appendUint(b, uint64(n))
}

// ParseCredit parses a grant. AddCredit adds it to what is outstanding.
func ParseCredit(content []byte) (kind, n uint32, err error) {
	p, further := open(content, OpCredit, 2)
	kind, n = p.uint32(), p.uint32()
	if err := p.close(further); err != nil {
		return 0, 0, err
	}
	return kind, n, nil
}

// AppendDrain appends a service's wish to be given no more: [op]. relay.md 6.3.
func AppendDrain(b []byte) []byte { return appendBare(b, OpDrain) }

// ParseDrain parses a drain.
func ParseDrain(content []byte) error { return parseBare(content, OpDrain) }

// AppendDrained appends the end of a drain: [op]. relay.md 6.3.
func AppendDrained(b []byte) []byte { return appendBare(b, OpDrained) }

// ParseDrained parses a drained.
func ParseDrained(content []byte) error { return parseBare(content, OpDrained) }

// AppendLeaving appends the node's news that it will end: [op]. relay.md 6.5.
func AppendLeaving(b []byte) []byte { return appendBare(b, OpLeaving) }

// ParseLeaving parses a leaving.
func ParseLeaving(content []byte) error { return parseBare(content, OpLeaving) }

// AppendBye appends the last frame of a connection: [op, code, text].
// relay.md 6.4.
func AppendBye(b []byte, code Code, text string) []byte { return appendReason(b, OpBye, code, text) }

// ParseBye parses a bye.
func ParseBye(content []byte) (Code, string, error) { return parseReason(content, OpBye) }

func appendBare(b []byte, op Op) []byte { return append(b, 0xc4, 2, 0x91, byte(op)) }

func parseBare(content []byte, op Op) error {
	p, further := open(content, op, 0)
	return p.close(further)
}

func appendNumber(b []byte, op Op, v uint64) []byte {
	b = append(b, 0xc4, byte(2+uintSize(v)), 0x92, byte(op))
	return appendUint(b, v)
}

func parseNumber(content []byte, op Op) (uint64, error) {
	p, further := open(content, op, 1)
	v := p.uint()
	if err := p.close(further); err != nil {
		return 0, err
	}
	return v, nil
}

func appendReason(b []byte, op Op, code Code, text string) []byte {
	start := len(b)
	b = append(b, 0x93, byte(op))
	b = appendUint(b, uint64(code))
	b = appendStr(b, Text([]byte(text)))
	return frame(b, start)
}

func parseReason(content []byte, op Op) (Code, string, error) {
	p, further := open(content, op, 2)
	code, text := p.code(), string(p.str())
	if err := p.close(further); err != nil {
		return 0, "", err
	}
	return code, text, nil
}
