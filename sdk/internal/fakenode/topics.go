package fakenode

import (
	"slices"

	"github.com/project-iris/iris/spec/wire"
)

// broadcast hands a message to every member that has credit.
func (s *session) broadcast(content []byte) error {
	m, err := wire.ParseBroadcast(content)
	if err != nil {
		return err
	}
	n := s.node
	for _, member := range n.clusters[string(m.Cluster)] {
		if !member.spend(wire.KindBroadcast) {
			continue
		}
		member.push(func(b []byte) []byte {
			return wire.AppendBroadcast(b, wire.Broadcast{Cluster: m.Cluster, Headers: m.Headers, Payload: m.Payload})
		})
	}
	return nil
}

// spend uses up a credit; without one the message is dropped and counted.
func (s *session) spend(kind uint32) bool {
	if s.credits[kind] == 0 {
		s.node.dropped++
		return false
	}
	s.credits[kind]--
	return true
}

// publish hands an event to every subscriber that has credit.
func (s *session) publish(content []byte) error {
	m, err := wire.ParsePublish(content)
	if err != nil {
		return err
	}
	for _, subscriber := range s.node.topics[string(m.Topic)] {
		if subscriber.spend(wire.KindEvent) {
			subscriber.push(func(b []byte) []byte {
				return wire.AppendEvent(b, wire.Event{Topic: m.Topic, Headers: m.Headers, Payload: m.Payload})
			})
		}
	}
	return nil
}

// subscribe is effective at once, unless the test holds the outcome back.
func (s *session) subscribe(content []byte) error {
	id, topic, err := wire.ParseSubscribe(content)
	if err != nil {
		return err
	}
	n := s.node
	n.subscribes++
	code := wire.CodeOK
	if slices.Contains(n.topics[string(topic)], s) {
		code = wire.CodeInvalid
	} else {
		n.topics[string(topic)] = append(n.topics[string(topic)], s)
	}
	if !n.cfg.NoDone {
		s.push(func(b []byte) []byte { return wire.AppendDone(b, id, code, "") })
	}
	return nil
}

func (s *session) unsubscribe(content []byte) error {
	id, topic, err := wire.ParseUnsubscribe(content)
	if err != nil {
		return err
	}
	n := s.node
	at := slices.Index(n.topics[string(topic)], s)
	code := wire.CodeOK
	if at < 0 {
		code = wire.CodeInvalid
	} else {
		n.topics[string(topic)] = slices.Delete(n.topics[string(topic)], at, at+1)
	}
	s.push(func(b []byte) []byte { return wire.AppendDone(b, id, code, "") })
	return nil
}

// Subscribers counts the subscribers of a topic.
func (n *Node) Subscribers(topic string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.topics[topic])
}

// Subscribes counts the subscribe frames.
func (n *Node) Subscribes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.subscribes
}

// Dropped counts the events and broadcasts for which there was no credit.
func (n *Node) Dropped() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}
