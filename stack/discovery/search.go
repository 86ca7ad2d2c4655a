package discovery

import (
	"net/netip"
	"time"
)

const (
	// fastInterval sweeps a /24 in 0.4 s.
	fastInterval = time.Second / 640
	// fastBurst lets a sender that was scheduled late catch up.
	fastBurst = 16
	// largeInterval fills at most 150 entries of the neighbour table in a second.
	largeInterval = time.Second / 150
	// lonelyInterval is the pace of a node that has found nobody, for lonelyTime, and in a flood that
	// keeps it from hearing others.
	lonelyInterval = time.Second / 20
	lonelyTime     = time.Minute
	// settledInterval is the pace that never ends, for each peer: 2 probes a second in the whole
	// network, about, but from each node one in settledLimit at least.
	settledInterval = time.Second / 2
	settledLimit    = 5 * time.Second
	// Once the small subnets are swept, every so manieth probe looks for a node that
	// went missing or at a seed; the first number counts while large subnets are searched.
	missingEveryLarge = 16
	missingEvery      = 2
	// Of so many slow probes for each peer one goes to everybody on a subnet: all of
	// them answer, and a network that grows is to answer no more.
	broadcastEvery = 16
	// maxSkips bounds the work of a step where most targets need no probe.
	maxSkips = 64
)

// A search decides where and when to probe and when the node has converged.
// It does no I/O and is driven by the time it is given.
type search struct {
	sweep      *sweep
	pacer      pacer
	calm       convergence
	recent     recent
	seeds      []netip.AddrPort            // where nodes are said to be
	resolving  bool                        // the names of seeds were not all looked up yet
	broadcasts []netip.AddrPort            // reach everybody on a subnet
	casts      int                         // probes to those
	skip       map[netip.AddrPort]struct{} // the node itself and its peers
	peers      int
	self       []netip.AddrPort
	began      time.Time
	opened     time.Time        // when the sweep became endless; zero before
	found      bool             // any node, beyond doubt
	turn       int              // probes once the small subnets are swept
	calls      calls            // when to call
	called     []netip.AddrPort // who has called: to be probed at once
	deaf       bool             // most of what comes is dropped unseen, so others have to hear this node
}

func newSearch(now time.Time, sweep *sweep, self ...netip.AddrPort) *search {
	s := &search{sweep: sweep, self: self, began: now}
	s.know(nil)
	return s
}

// An action is what a search wants done.
type action struct {
	target    netip.AddrPort // to be probed now, if valid
	call      bool           // tell others where this node is
	wait      time.Duration  // until the next step
	converged bool
}

// step decides what to do now.
func (s *search) step(now time.Time) action {
	s.advance(now)
	var a action
	if a.target = s.caller(); a.target.IsValid() {
		return a
	}
	if s.pacer.wait(now) == 0 {
		s.pacer.take(now)
		a.target = s.target()
	}
	a.wait = s.pacer.wait(now)
	slowest := s.settled() * time.Duration(broadcastEvery*max(1, s.peers))
	a.call = s.calls.take(now, slowest)
	a.wait = min(a.wait, s.calls.wait(now, slowest))
	if at, ok := s.calm.at(); ok {
		left := at.Sub(now)
		a.converged = left <= 0
		if left > 0 {
			a.wait = min(a.wait, left)
		}
	}
	return a
}

// advance follows the sweep from stage to stage.
func (s *search) advance(now time.Time) {
	stage, _ := s.sweep.current()
	if stage == stageEndless && s.opened.IsZero() {
		s.opened = now
	}
	if s.calm.swept.IsZero() && stage > stageFirstPort {
		done := (s.sweep.small() || stage == stageEndless) && !s.resolving
		if done && len(s.sweep.first) == 0 || now.Sub(s.began) >= largeTime {
			s.calm.swept = now
		}
	}
	s.pacer.interval, s.pacer.burst = s.pace(now, stage)
}

// pace is the interval between probes and how many may go at once.
func (s *search) pace(now time.Time, stage stage) (time.Duration, int) {
	switch {
	case stage < stageLarge, len(s.sweep.first) > 0 && now.Sub(s.began) < largeTime:
		return fastInterval, fastBurst
	case stage == stageLarge:
		return largeInterval, 1
	case !s.found && now.Sub(s.opened) < lonelyTime, s.deaf, len(s.sweep.first) > 0:
		return lonelyInterval, 1
	default:
		return s.settled(), 1
	}
}

// settled is the pace that never ends.
func (s *search) settled() time.Duration {
	return min(settledInterval*time.Duration(max(1, s.peers)), settledLimit)
}

// target is whom to probe; not valid if maxSkips targets in a row need no
// probe.
func (s *search) target() netip.AddrPort {
	if addr, ok := s.special(); ok {
		return addr
	}
	for range maxSkips {
		addr := s.sweep.next()
		if _, ok := s.skip[addr]; !ok {
			return addr
		}
	}
	return netip.AddrPort{}
}

// special is a target that takes the turn of one of the sweep's, once the small subnets are swept:
// a node that went missing, a seed, everybody.
func (s *search) special() (netip.AddrPort, bool) {
	stage, _ := s.sweep.current()
	if stage < stageLarge || len(s.sweep.first) > 0 {
		return netip.AddrPort{}, false
	}
	s.turn++
	every := missingEvery
	if stage == stageLarge {
		every = missingEveryLarge
	}
	if n := len(s.broadcasts); n > 0 && stage == stageEndless && s.turn%(broadcastEvery*max(1, s.peers)) == 1 {
		s.casts++
		return s.broadcasts[s.casts%n], true
	}
	if s.turn%every == 0 {
		return s.recent.missing(s.skip, s.seeds)
	}
	return netip.AddrPort{}, false
}

// seed replaces the seeds; what is new among them is probed next.
func (s *search) seed(addrs []netip.AddrPort, resolving bool) {
	old := make(map[netip.AddrPort]struct{}, len(s.seeds))
	for _, addr := range s.seeds {
		old[addr] = struct{}{}
	}
	for _, addr := range addrs {
		if _, ok := old[addr]; !ok {
			s.sweep.first = append(s.sweep.first, addr)
		}
	}
	s.seeds, s.resolving = addrs, resolving
}

// know replaces the peers that need no probing.
func (s *search) know(peers []netip.AddrPort) {
	s.skip = make(map[netip.AddrPort]struct{}, len(peers)+len(s.self))
	for _, addr := range s.self {
		s.skip[addr] = struct{}{}
	}
	s.peers = len(peers)
	s.found = s.found || s.peers > 0
	for _, addr := range peers {
		addr = unmapped(addr)
		s.skip[addr] = struct{}{}
		s.recent.saw(addr)
	}
}

// hit takes note of a node at addr. Fresh means never heard of before; proven
// that it answered from there itself.
func (s *search) hit(now time.Time, addr netip.AddrPort, fresh, proven bool) {
	if fresh {
		s.calm.news = now
	}
	if proven {
		s.found = true
		s.recent.saw(addr)
	}
}
