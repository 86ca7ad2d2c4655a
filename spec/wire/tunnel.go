package wire

// DataOverhead is what a data frame costs of the allowance besides its payload,
// in bytes. relay.md 10.5.
const DataOverhead = 64

// NodeTunnel is the bit that is set in the ids of tunnels that the node opens,
// and in no others. relay.md 10.1.
const NodeTunnel = 1 << 63

// Open asks for a tunnel to a member of a cluster; the node offers it to one in
// the same form: [op, id, cluster, budget ms, window, headers]. relay.md 10.1.
type Open struct {
	ID      uint64 // unique among the sender's tunnels that it opened; NodeTunnel tells whose
	Cluster []byte
	Budget  uint32 // ms that are left to accept it; NoDeadline: no limit
	Window  uint32 // bytes that the sender allows at first, as an allow does
	Headers Headers
}

// Opened accepts a tunnel: [op, id, window, headers]. relay.md 10.2.
type Opened struct {
	ID      uint64 // of the open
	Window  uint32 // bytes that the sender allows at first, as an allow does
	Headers Headers
}

// Data is a chunk of a tunnel's message: [op, id, last, payload]. relay.md 10.4.
type Data struct {
	ID      uint64
	Last    bool // the message ends with this chunk
	Payload []byte
}

// AppendOpen appends a frame with o. Its fields are not checked:
// Limits.CheckOpen does that.
func AppendOpen(b []byte, o Open) []byte {
	b = appendBinLen(b, o.contentSize())
	b = append(b, 0x96, byte(OpOpen))
	b = appendUint(b, o.ID)
	b = appendStr(b, o.Cluster)
	b = appendUint(b, uint64(o.Budget))
	b = appendUint(b, uint64(o.Window))
	return appendHeaders(b, o.Headers)
}

// ParseOpen parses an open whose slices alias content.
func ParseOpen(content []byte) (o Open, err error) {
	p, further := open(content, OpOpen, 5)
	o.ID = p.uint()
	o.Cluster = p.str()
	o.Budget, o.Window = p.uint32(), p.uint32()
	o.Headers = p.headers()
	if err := p.close(further); err != nil {
		return Open{}, err
	}
	return o, nil
}

// Size is what AppendOpen adds, in bytes.
func (o Open) Size() int { return binSize(o.contentSize()) }

func (o Open) contentSize() int {
	return 2 + uintSize(o.ID) + strSize(len(o.Cluster)) + uintSize(uint64(o.Budget)) + uintSize(uint64(o.Window)) + headersSize(o.Headers)
}

// AppendOpened appends a frame with o. Its fields are not checked:
// Limits.CheckOpened does that.
func AppendOpened(b []byte, o Opened) []byte {
	b = appendBinLen(b, o.contentSize())
	b = append(b, 0x94, byte(OpOpened))
	b = appendUint(b, o.ID)
	b = appendUint(b, uint64(o.Window))
	return appendHeaders(b, o.Headers)
}

// ParseOpened parses an opened whose slices alias content.
func ParseOpened(content []byte) (o Opened, err error) {
	p, further := open(content, OpOpened, 3)
	o.ID = p.uint()
	o.Window = p.uint32()
	o.Headers = p.headers()
	if err := p.close(further); err != nil {
		return Opened{}, err
	}
	return o, nil
}

// Size is what AppendOpened adds, in bytes.
func (o Opened) Size() int { return binSize(o.contentSize()) }

func (o Opened) contentSize() int {
	return 2 + uintSize(o.ID) + uintSize(uint64(o.Window)) + headersSize(o.Headers)
}

// AppendData appends a frame with d. Its payload is not checked:
// Limits.CheckChunk does that.
func AppendData(b []byte, d Data) []byte {
	var last byte
	if d.Last {
		last = 1
	}
	b = appendBinLen(b, d.contentSize())
	b = append(b, 0x94, byte(OpData))
	b = appendUint(b, d.ID)
	b = append(b, last)
	b = appendBinLen(b, len(d.Payload))
	return append(b, d.Payload...)
}

// ParseData parses a data whose payload aliases content.
func ParseData(content []byte) (d Data, err error) {
	p, further := open(content, OpData, 3)
	d.ID = p.uint()
	last := p.uint()
	if p.err == nil && last > 1 {
		p.fail("10.4", "last is neither 0 nor 1")
	}
	d.Last = last == 1
	d.Payload = p.bin()
	if err := p.close(further); err != nil {
		return Data{}, err
	}
	return d, nil
}

// Size is what AppendData adds, in bytes.
func (d Data) Size() int { return binSize(d.contentSize()) }

func (d Data) contentSize() int { return 3 + uintSize(d.ID) + binSize(len(d.Payload)) }

// Cost is what d uses up of what its receiver has allowed, in bytes.
// relay.md 10.5.
func (d Data) Cost() int { return len(d.Payload) + DataOverhead }

// AppendAllow appends the leave to send n bytes more: [op, id, n]. relay.md 10.5.
func AppendAllow(b []byte, id uint64, n uint32) []byte {
	b = appendBinLen(b, 2+uintSize(id)+uintSize(uint64(n)))
	b = append(b, 0x93, byte(OpAllow))
	b = appendUint(b, id)
	return appendUint(b, uint64(n))
}

// ParseAllow parses an allow. AddAllowance adds it to what is outstanding.
func ParseAllow(content []byte) (id uint64, n uint32, err error) {
	p, further := open(content, OpAllow, 2)
	id, n = p.uint(), p.uint32()
	if err := p.close(further); err != nil {
		return 0, 0, err
	}
	return id, n, nil
}

// AppendFinish appends the end of one direction of a tunnel: [op, id].
// relay.md 10.6.
func AppendFinish(b []byte, id uint64) []byte { return appendNumber(b, OpFinish, id) }

// ParseFinish parses a finish.
func ParseFinish(content []byte) (id uint64, err error) { return parseNumber(content, OpFinish) }

// AppendAbort appends the end of a tunnel at once: [op, id, code, text]. A text
// that relay.md 5.6 does not allow is mended as Text does. relay.md 10.7.
func AppendAbort(b []byte, id uint64, code Code, text string) []byte {
	return appendOutcome(b, OpAbort, id, code, text)
}

// ParseAbort parses an abort.
func ParseAbort(content []byte) (id uint64, code Code, text string, err error) {
	return parseOutcome(content, OpAbort)
}
