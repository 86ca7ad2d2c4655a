package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHotFramesAllocateNothing(t *testing.T) {
	request := Request{ID: 1 << 40, Cluster: []byte("upper"), Budget: 1000, Headers: EncodeHeaders(map[string]string{"a": "b"}), Payload: make([]byte, 64)}
	reply := Reply{ID: 1 << 40, Code: CodeFailed, Text: []byte("text"), Headers: request.Headers, Payload: request.Payload}
	broadcast := Broadcast{ID: 1, Cluster: request.Cluster, Headers: request.Headers, Payload: request.Payload}
	publish := Publish{ID: 1, Topic: request.Cluster, Headers: request.Headers, Payload: request.Payload}
	event := Event{Topic: request.Cluster, Headers: request.Headers, Payload: request.Payload}
	data := Data{ID: NodeTunnel, Last: true, Payload: request.Payload}
	whole := wholes(t)
	limits := DefaultLimits()
	buf := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b := AppendRequest(buf, request)
		b = AppendReply(b, reply)
		b = AppendCancel(b, 1)
		b = AppendCredit(b, KindRequest, 100)
		b = AppendPing(b, 1)
		b = AppendPong(b, 1)
		b = AppendBroadcast(b, broadcast)
		b = AppendPublish(b, publish)
		b = AppendEvent(b, event)
		b = AppendDone(b, 1, CodeOK, "")
		b = AppendData(b, data)
		_ = AppendAllow(b, NodeTunnel, 1<<20)
		if limits.CheckBroadcast(broadcast) != nil || limits.CheckPublish(publish) != nil || limits.CheckChunk(data) != nil {
			panic("within the limits")
		}
		if limits.CheckRequest(request) != nil || limits.CheckReply(reply) != nil {
			panic("within the limits")
		}
	}))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, content := range whole {
			op, err := ParseOp(content)
			switch op {
			case OpRequest:
				_, err = ParseRequest(content)
			case OpReply:
				_, err = ParseReply(content)
			case OpCancel:
				_, err = ParseCancel(content)
			case OpCredit:
				_, _, err = ParseCredit(content)
			case OpPing:
				_, err = ParsePing(content)
			case OpPong:
				_, err = ParsePong(content)
			case OpBroadcast:
				_, err = ParseBroadcast(content)
			case OpPublish:
				_, err = ParsePublish(content)
			case OpEvent:
				_, err = ParseEvent(content)
			case OpOpen:
				_, err = ParseOpen(content)
			case OpData:
				_, err = ParseData(content)
			case OpAllow:
				_, _, err = ParseAllow(content)
			}
			if err != nil {
				panic(err)
			}
		}
	}))
}

func TestAFlushAllocatesNothing(t *testing.T) {
	for name, pair := range pairs() {
		if name == "pipe" {
			continue // its writes are the goroutine's
		}
		near, far := pair(t)
		o := NewOutput(near, 1<<20)
		r := benchRequest(64)
		in := make([]byte, r.Size())
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if err := put(o, r); err != nil {
				panic(err)
			}
			o.Flush()
			if n, err := far.Read(in); err != nil || n != len(in) {
				panic("one frame, one write")
			}
		}), name)
		require.NoError(t, o.Close(t.Context()))
	}
}
