package wire

// Broadcast is a message to every member of a cluster:
// [op, id, cluster, headers, payload]. The node gives it to each in the same
// form, with an ID of 0. relay.md 8.1.
type Broadcast struct {
	ID      uint64 // that a done repeats; 0: no outcome is wanted
	Cluster []byte
	Headers Headers
	Payload []byte
}

// Publish is a message to every subscriber of a topic:
// [op, id, topic, headers, payload]. relay.md 9.1.
type Publish struct {
	ID      uint64 // that a done repeats; 0: no outcome is wanted
	Topic   []byte
	Headers Headers
	Payload []byte
}

// Event is what was published, as a subscriber gets it:
// [op, topic, headers, payload]. relay.md 9.2.
type Event struct {
	Topic   []byte
	Headers Headers
	Payload []byte
}

// AppendBroadcast appends a frame with m. Its fields are not checked:
// Limits.CheckBroadcast does that.
func AppendBroadcast(b []byte, m Broadcast) []byte {
	b = appendBinLen(b, m.contentSize())
	b = append(b, 0x95, byte(OpBroadcast))
	b = appendUint(b, m.ID)
	return appendMessage(b, m.Cluster, m.Headers, m.Payload)
}

// ParseBroadcast parses a broadcast whose slices alias content.
func ParseBroadcast(content []byte) (m Broadcast, err error) {
	p, further := open(content, OpBroadcast, 4)
	m.ID = p.uint()
	m.Cluster, m.Headers, m.Payload = p.str(), p.headers(), p.bin()
	if err := p.close(further); err != nil {
		return Broadcast{}, err
	}
	return m, nil
}

// Size is what AppendBroadcast adds, in bytes.
func (m Broadcast) Size() int { return binSize(m.contentSize()) }

func (m Broadcast) contentSize() int {
	return 2 + uintSize(m.ID) + messageSize(m.Cluster, m.Headers, m.Payload)
}

// AppendPublish appends a frame with m. Its fields are not checked:
// Limits.CheckPublish does that.
func AppendPublish(b []byte, m Publish) []byte {
	b = appendBinLen(b, m.contentSize())
	b = append(b, 0x95, byte(OpPublish))
	b = appendUint(b, m.ID)
	return appendMessage(b, m.Topic, m.Headers, m.Payload)
}

// ParsePublish parses a publish whose slices alias content.
func ParsePublish(content []byte) (m Publish, err error) {
	p, further := open(content, OpPublish, 4)
	m.ID = p.uint()
	m.Topic, m.Headers, m.Payload = p.str(), p.headers(), p.bin()
	if err := p.close(further); err != nil {
		return Publish{}, err
	}
	return m, nil
}

// Size is what AppendPublish adds, in bytes.
func (m Publish) Size() int { return binSize(m.contentSize()) }

func (m Publish) contentSize() int {
	return 2 + uintSize(m.ID) + messageSize(m.Topic, m.Headers, m.Payload)
}

// AppendEvent appends a frame with m.
func AppendEvent(b []byte, m Event) []byte {
	b = appendBinLen(b, m.contentSize())
	b = append(b, 0x94, byte(OpEvent))
	return appendMessage(b, m.Topic, m.Headers, m.Payload)
}

// ParseEvent parses an event whose slices alias content.
func ParseEvent(content []byte) (m Event, err error) {
	p, further := open(content, OpEvent, 3)
	m.Topic, m.Headers, m.Payload = p.str(), p.headers(), p.bin()
	if err := p.close(further); err != nil {
		return Event{}, err
	}
	return m, nil
}

// Size is what AppendEvent adds, in bytes.
func (m Event) Size() int { return binSize(m.contentSize()) }

func (m Event) contentSize() int { return 2 + messageSize(m.Topic, m.Headers, m.Payload) }

// appendMessage appends the fields in which broadcasts, publishes and events end.
func appendMessage(b, name []byte, h Headers, payload []byte) []byte {
	b = appendStr(b, name)
	b = appendHeaders(b, h)
	b = appendBinLen(b, len(payload))
	return append(b, payload...)
}

func messageSize(name []byte, h Headers, payload []byte) int {
	return strSize(len(name)) + headersSize(h) + binSize(len(payload))
}

// AppendSubscribe appends the wish for the events of a topic: [op, id, topic].
// Limits.CheckTopic checks the topic. relay.md 9.3.
func AppendSubscribe(b []byte, id uint64, topic []byte) []byte {
	return appendNamed(b, OpSubscribe, id, topic)
}

// ParseSubscribe parses a subscribe; the topic aliases content.
func ParseSubscribe(content []byte) (id uint64, topic []byte, err error) {
	return parseNamed(content, OpSubscribe)
}

// AppendUnsubscribe appends the end of that wish: [op, id, topic]. relay.md 9.4.
func AppendUnsubscribe(b []byte, id uint64, topic []byte) []byte {
	return appendNamed(b, OpUnsubscribe, id, topic)
}

// ParseUnsubscribe parses an unsubscribe; the topic aliases content.
func ParseUnsubscribe(content []byte) (id uint64, topic []byte, err error) {
	return parseNamed(content, OpUnsubscribe)
}

func appendNamed(b []byte, op Op, id uint64, name []byte) []byte {
	b = appendBinLen(b, 2+uintSize(id)+strSize(len(name)))
	b = append(b, 0x93, byte(op))
	b = appendUint(b, id)
	return appendStr(b, name)
}

func parseNamed(content []byte, op Op) (id uint64, name []byte, err error) {
	p, further := open(content, op, 2)
	id, name = p.uint(), p.str()
	if err := p.close(further); err != nil {
		return 0, nil, err
	}
	return id, name, nil
}

// AppendDone appends the outcome of a broadcast, publish, subscribe or
// unsubscribe: [op, id, code, text]. A text that relay.md 5.6 does not allow is
// mended as Text does. relay.md 8.3.
func AppendDone(b []byte, id uint64, code Code, text string) []byte {
	return appendOutcome(b, OpDone, id, code, text)
}

// ParseDone parses a done.
func ParseDone(content []byte) (id uint64, code Code, text string, err error) {
	return parseOutcome(content, OpDone)
}

func appendOutcome(b []byte, op Op, id uint64, code Code, text string) []byte {
	mended := Text([]byte(text))
	b = appendBinLen(b, 2+uintSize(id)+uintSize(uint64(code))+strSize(len(mended)))
	b = append(b, 0x94, byte(op))
	b = appendUint(b, id)
	b = appendUint(b, uint64(code))
	return appendStr(b, mended)
}

func parseOutcome(content []byte, op Op) (id uint64, code Code, text string, err error) {
	p, further := open(content, op, 3)
	id, code, text = p.uint(), p.code(), string(p.str())
	if err := p.close(further); err != nil {
		return 0, 0, "", err
	}
	return id, code, text, nil
}
