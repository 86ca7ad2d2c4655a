package vectors_test

import (
	"maps"

	"github.com/project-iris/iris/spec/vectors"
	"github.com/project-iris/iris/spec/wire"
)

// parse parses content with the codec, into what a vector says of it.
func parse(op wire.Op, content []byte) (f vectors.Fields, err error) {
	switch op {
	case wire.OpHello:
		h, err := wire.ParseHello(content)
		return vectors.Fields{Min: h.Min, Max: h.Max, Cluster: string(h.Cluster), Options: h.Options, Features: h.Features}, err
	case wire.OpWelcome:
		w, err := wire.ParseWelcome(content)
		return vectors.Fields{Version: w.Version, Limits: limits(w.Limits), Info: w.Info, Features: w.Features}, err
	case wire.OpRequest:
		r, err := wire.ParseRequest(content)
		return vectors.Fields{ID: r.ID, Cluster: string(r.Cluster), Budget: r.Budget, Headers: maps.Collect(r.Headers.All()), Payload: r.Payload}, err
	case wire.OpReply:
		r, err := wire.ParseReply(content)
		return vectors.Fields{ID: r.ID, Code: uint8(r.Code), Text: string(r.Text), Headers: maps.Collect(r.Headers.All()), Payload: r.Payload}, err
	case wire.OpPing:
		f.Token, err = wire.ParsePing(content)
	case wire.OpPong:
		f.Token, err = wire.ParsePong(content)
	case wire.OpCancel:
		f.ID, err = wire.ParseCancel(content)
	case wire.OpCredit:
		f.Kind, f.N, err = wire.ParseCredit(content)
	case wire.OpDrain:
		err = wire.ParseDrain(content)
	case wire.OpDrained:
		err = wire.ParseDrained(content)
	case wire.OpLeaving:
		err = wire.ParseLeaving(content)
	case wire.OpBye:
		return reason(wire.ParseBye(content))
	case wire.OpRefuse:
		return reason(wire.ParseRefuse(content))
	default:
		return parseMessage(op, content)
	}
	return f, err
}

// parseMessage parses what relay.md 8 to 10 describe.
func parseMessage(op wire.Op, content []byte) (f vectors.Fields, err error) {
	switch op {
	case wire.OpBroadcast:
		m, err := wire.ParseBroadcast(content)
		return vectors.Fields{ID: m.ID, Cluster: string(m.Cluster), Headers: maps.Collect(m.Headers.All()), Payload: m.Payload}, err
	case wire.OpPublish:
		m, err := wire.ParsePublish(content)
		return vectors.Fields{ID: m.ID, Topic: string(m.Topic), Headers: maps.Collect(m.Headers.All()), Payload: m.Payload}, err
	case wire.OpEvent:
		m, err := wire.ParseEvent(content)
		return vectors.Fields{Topic: string(m.Topic), Headers: maps.Collect(m.Headers.All()), Payload: m.Payload}, err
	case wire.OpSubscribe:
		return named(wire.ParseSubscribe(content))
	case wire.OpUnsubscribe:
		return named(wire.ParseUnsubscribe(content))
	case wire.OpDone:
		return outcome(wire.ParseDone(content))
	case wire.OpOpen:
		o, err := wire.ParseOpen(content)
		return vectors.Fields{ID: o.ID, Cluster: string(o.Cluster), Budget: o.Budget, Window: o.Window, Headers: maps.Collect(o.Headers.All())}, err
	case wire.OpOpened:
		o, err := wire.ParseOpened(content)
		return vectors.Fields{ID: o.ID, Window: o.Window, Headers: maps.Collect(o.Headers.All())}, err
	case wire.OpData:
		d, err := wire.ParseData(content)
		f = vectors.Fields{ID: d.ID, Payload: d.Payload}
		if d.Last {
			f.Last = 1
		}
		return f, err
	case wire.OpAllow:
		f.ID, f.N, err = wire.ParseAllow(content)
	case wire.OpFinish:
		f.ID, err = wire.ParseFinish(content)
	case wire.OpAbort:
		return outcome(wire.ParseAbort(content))
	default:
		panic("no parser for " + op.String())
	}
	return f, err
}

func reason(code wire.Code, text string, err error) (vectors.Fields, error) {
	return vectors.Fields{Code: uint8(code), Text: text}, err
}

func named(id uint64, topic []byte, err error) (vectors.Fields, error) {
	return vectors.Fields{ID: id, Topic: string(topic)}, err
}

func outcome(id uint64, code wire.Code, text string, err error) (vectors.Fields, error) {
	return vectors.Fields{ID: id, Code: uint8(code), Text: text}, err
}

func limits(l wire.Limits) map[string]uint64 {
	return map[string]uint64{
		"frame": l.Frame, "payload": l.Payload, "headers": l.Headers, "name": l.Name,
		"requests": l.Requests, "topics": l.Topics, "tunnels": l.Tunnels, "chunk": l.Chunk,
	}
}

// encode encodes what a vector says with the codec.
func encode(op wire.Op, f vectors.Fields) []byte {
	headers := wire.EncodeHeaders(f.Headers)
	switch op {
	case wire.OpHello:
		return wire.AppendHello(nil, wire.Hello{Min: f.Min, Max: f.Max, Cluster: []byte(f.Cluster), Options: f.Options, Features: f.Features})
	case wire.OpWelcome:
		l := wire.Limits{
			Frame: f.Limits["frame"], Payload: f.Limits["payload"], Headers: f.Limits["headers"], Name: f.Limits["name"],
			Requests: f.Limits["requests"], Topics: f.Limits["topics"], Tunnels: f.Limits["tunnels"], Chunk: f.Limits["chunk"],
		}
		return wire.AppendWelcome(nil, wire.Welcome{Version: f.Version, Limits: l, Info: f.Info, Features: f.Features})
	case wire.OpRequest:
		return wire.AppendRequest(nil, wire.Request{ID: f.ID, Cluster: []byte(f.Cluster), Budget: f.Budget, Headers: headers, Payload: f.Payload})
	case wire.OpReply:
		return wire.AppendReply(nil, wire.Reply{ID: f.ID, Code: wire.Code(f.Code), Text: []byte(f.Text), Headers: headers, Payload: f.Payload})
	case wire.OpPing:
		return wire.AppendPing(nil, f.Token)
	case wire.OpPong:
		return wire.AppendPong(nil, f.Token)
	case wire.OpCancel:
		return wire.AppendCancel(nil, f.ID)
	case wire.OpCredit:
		return wire.AppendCredit(nil, f.Kind, f.N)
	case wire.OpDrain:
		return wire.AppendDrain(nil)
	case wire.OpDrained:
		return wire.AppendDrained(nil)
	case wire.OpLeaving:
		return wire.AppendLeaving(nil)
	case wire.OpBye:
		return wire.AppendBye(nil, wire.Code(f.Code), f.Text)
	case wire.OpRefuse:
		return wire.AppendRefuse(nil, wire.Code(f.Code), f.Text)
	}
	return encodeMessage(op, f)
}

func encodeMessage(op wire.Op, f vectors.Fields) []byte {
	headers := wire.EncodeHeaders(f.Headers)
	switch op {
	case wire.OpBroadcast:
		return wire.AppendBroadcast(nil, wire.Broadcast{ID: f.ID, Cluster: []byte(f.Cluster), Headers: headers, Payload: f.Payload})
	case wire.OpPublish:
		return wire.AppendPublish(nil, wire.Publish{ID: f.ID, Topic: []byte(f.Topic), Headers: headers, Payload: f.Payload})
	case wire.OpEvent:
		return wire.AppendEvent(nil, wire.Event{Topic: []byte(f.Topic), Headers: headers, Payload: f.Payload})
	case wire.OpSubscribe:
		return wire.AppendSubscribe(nil, f.ID, []byte(f.Topic))
	case wire.OpUnsubscribe:
		return wire.AppendUnsubscribe(nil, f.ID, []byte(f.Topic))
	case wire.OpDone:
		return wire.AppendDone(nil, f.ID, wire.Code(f.Code), f.Text)
	case wire.OpOpen:
		return wire.AppendOpen(nil, wire.Open{ID: f.ID, Cluster: []byte(f.Cluster), Budget: f.Budget, Window: f.Window, Headers: headers})
	case wire.OpOpened:
		return wire.AppendOpened(nil, wire.Opened{ID: f.ID, Window: f.Window, Headers: headers})
	case wire.OpData:
		return wire.AppendData(nil, wire.Data{ID: f.ID, Last: f.Last == 1, Payload: f.Payload})
	case wire.OpAllow:
		return wire.AppendAllow(nil, f.ID, f.N)
	case wire.OpFinish:
		return wire.AppendFinish(nil, f.ID)
	case wire.OpAbort:
		return wire.AppendAbort(nil, f.ID, wire.Code(f.Code), f.Text)
	}
	panic("no encoder for " + op.String())
}
