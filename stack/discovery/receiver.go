package discovery

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// Valid probes are answered at this rate; more meet silence.
	answerInterval = time.Second / 2000
	answerBurst    = 200
)

// A receiver judges datagrams. It does no I/O, is driven by the time it is given,
// allocates nothing for what it turns away, and holds no state that a stranger can make
// grow. It belongs to one goroutine.
type receiver struct {
	self       [32]byte
	keys       keyring
	challenge  *challenge
	broadcasts []netip.Prefix // subnets that are probed as a whole
	answers    pacer
	gate       *gate
	out        [Size]byte // the answer
}

func newReceiver(self [32]byte, secrets [][]byte, c *challenge) *receiver {
	return &receiver{
		self:      self,
		keys:      newKeyring(secrets),
		challenge: c,
		answers:   pacer{interval: answerInterval, burst: answerBurst},
		gate:      newGate(claimInterval, claimBurst),
	}
}

// A verdict is what a datagram amounts to.
type verdict struct {
	refused reason // accepted, or why nothing else here is set
	id      [32]byte
	answer  []byte // to be sent back, valid until the next datagram; nil if the datagram was an answer itself
	report  bool   // tell the layer above
	fresh   bool   // not heard of before
}

// judge decides about the datagram b from addr. What is cheap to check comes
// first.
func (r *receiver) judge(now time.Time, b []byte, addr netip.AddrPort) verdict {
	p, refused := parseProbe(b)
	if refused != accepted {
		return verdict{refused: refused}
	}
	if p.kind == kindCall {
		return verdict{refused: refusedKind}
	}
	signer := r.keys.signerOf(b)
	switch {
	case signer == nil:
		return verdict{refused: refusedMAC}
	case p.id == r.self:
		return verdict{refused: refusedSelf}
	case p.kind == kindAnswer && !r.challenge.met(now, addr, p.nonce) && !r.metBroadcast(now, addr, p.nonce):
		return verdict{refused: refusedStray}
	case p.kind == kindProbe && !r.answers.allow(now):
		return verdict{refused: refusedRate}
	}
	v := verdict{id: p.id}
	if p.kind == kindProbe {
		v.answer = appendProbe(r.out[:0], probe{kind: kindAnswer, nonce: p.nonce, id: r.self, mark: p.mark}, signer)
	}
	v.report, v.fresh = r.gate.pass(now, sighting{p.id, addr}, p.kind == kindAnswer)
	return v
}

// metBroadcast tells whether n was the nonce of a recent probe to the broadcast
// address of a subnet that addr is on.
func (r *receiver) metBroadcast(now time.Time, addr netip.AddrPort, n nonce) bool {
	return slices.ContainsFunc(r.broadcasts, func(subnet netip.Prefix) bool {
		return subnet.Contains(addr.Addr()) && r.challenge.met(now, netip.AddrPortFrom(last(subnet), addr.Port()), n)
	})
}
