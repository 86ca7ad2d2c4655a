package node

import (
	"github.com/project-iris/iris/spec/wire"
	"github.com/project-iris/iris/stack/link"
	"github.com/project-iris/iris/stack/patterns"
)

// Broadcast sends a message to the members of a cluster.
func (p *port) Broadcast(m wire.Broadcast) wire.Code {
	if wire.Reserved(m.Cluster) {
		return wire.CodeNoService
	}
	return wire.Code(p.port.Broadcast(&p.turn, patterns.Message{Name: m.Cluster, Headers: m.Headers, Payload: m.Payload}))
}

// Publish sends an event to the subscribers of a topic.
func (p *port) Publish(m wire.Publish) wire.Code {
	return wire.Code(p.port.Publish(&p.turn, patterns.Message{Name: m.Topic, Headers: m.Headers, Payload: m.Payload}))
}

// Subscribe begins the events of a topic.
func (p *port) Subscribe(topic []byte) <-chan struct{} { return p.port.Subscribe(topic) }

// Unsubscribe ends them.
func (p *port) Unsubscribe(topic []byte) { p.port.Unsubscribe(topic) }

// Broadcast delivers a message to a service; false means that it has no credit.
func (s *sink) Broadcast(t *link.Turn, m patterns.Message) bool {
	if !s.session.PushBroadcast(wire.Broadcast{Cluster: m.Name, Headers: headersOf(m.Headers), Payload: m.Payload}) {
		return false
	}
	t.Touch(s.session)
	return true
}

// Event delivers an event to a subscriber; false means that it has no credit.
func (s *sink) Event(t *link.Turn, m patterns.Message) bool {
	if !s.session.PushEvent(wire.Event{Topic: m.Name, Headers: headersOf(m.Headers), Payload: m.Payload}) {
		return false
	}
	t.Touch(s.session)
	return true
}
