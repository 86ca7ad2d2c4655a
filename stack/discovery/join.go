package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxSeeds = 64
	// maxSeedAddrs is how many addresses of one name are probed, maxTargets how many targets in all.
	maxSeedAddrs = 256
	maxTargets   = 4096
	// Names are looked up every resolveInterval, while no peer is known every aloneInterval.
	resolveInterval = 30 * time.Second
	aloneInterval   = 3 * time.Second
	lookupLimit     = 5 * time.Second
)

// A Seed is a host that nodes are said to be on, within the subnets or not.
type Seed struct {
	Host string // a name, or an IPv4 address
	Port uint16 // if zero, all well-known ports
}

// A Lookup finds the addresses of a name.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// systemLookup asks the system's resolver for IPv4 addresses.
func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

// ParseSeed reads HOST or HOST:PORT.
func ParseSeed(text string) (Seed, error) {
	host, number, hasPort := strings.Cut(text, ":")
	if strings.Contains(number, ":") {
		return Seed{}, fmt.Errorf("%q is not HOST or HOST:PORT: IPv6 addresses are not supported", text)
	}
	if host == "" || strings.ContainsAny(host, " \t/[]@") {
		return Seed{}, fmt.Errorf("%q is not HOST or HOST:PORT", text)
	}
	if !hasPort {
		return Seed{Host: host}, nil
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return Seed{}, fmt.Errorf("%q: a port is 1 to 65535", text)
	}
	return Seed{host, uint16(port)}, nil
}

// String is the form that ParseSeed reads.
func (s Seed) String() string {
	if s.Port == 0 {
		return s.Host
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// targets lists where nodes may be if addrs are the addresses of s.
func (s Seed) targets(addrs []netip.Addr) (targets []netip.AddrPort) {
	ports := []uint16{s.Port}
	if s.Port == 0 {
		ports = ports[:0]
		for i := range Ports {
			ports = append(ports, port(i))
		}
	}
	for _, p := range ports {
		for _, addr := range addrs[:min(len(addrs), maxSeedAddrs)] {
			if addr = addr.Unmap(); addr.Is4() && !addr.IsUnspecified() && !addr.IsMulticast() {
				targets = append(targets, netip.AddrPortFrom(addr, p))
			}
		}
	}
	return targets
}

// resolved is what the last lookups of a seed gave.
type resolved struct {
	done    bool // once at least
	targets []netip.AddrPort
	err     error // of the last one
}

// A SeedState is a seed and what its last lookups gave.
type SeedState struct {
	Seed    Seed
	Targets []netip.AddrPort // of the last lookup that succeeded
	Err     error            // of the last lookup
}

// Seeds tells the state of each seed.
func (p *Prober) Seeds() []SeedState {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]SeedState, len(p.resolved))
	for i, r := range p.resolved {
		states[i] = SeedState{p.cfg.Seeds[i], slices.Clone(r.targets), r.err}
	}
	return states
}

// resolve looks the seeds up again and again until ctx is done.
func (p *Prober) resolve(ctx context.Context) {
	if len(p.cfg.Seeds) == 0 {
		return
	}
	for ctx.Err() == nil {
		p.lookUpAll(ctx)
		for waited := time.Duration(0); waited < resolveInterval && ctx.Err() == nil; waited += aloneInterval {
			sleep(ctx, aloneInterval)
			if p.alone() {
				break
			}
		}
	}
}

// alone tells whether no peer is known.
func (p *Prober) alone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.search.peers == 0
}

// lookUpAll looks every seed up once, at the same time: a name server that does not
// answer for one must not delay the others.
func (p *Prober) lookUpAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	var wg sync.WaitGroup
	for i, seed := range p.cfg.Seeds {
		wg.Go(func() {
			addrs, err := p.lookUp(ctx, seed.Host)
			p.note(i, seed.targets(addrs), err)
		})
	}
	wg.Wait()
}

func (p *Prober) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	lookup := p.cfg.Lookup
	if lookup == nil {
		lookup = systemLookup
	}
	addrs, err := lookup(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("the name has no IPv4 address")
	}
	return addrs, err
}

// note takes in a lookup of seed i and hands all targets to the search. A failure
// leaves what was known before, and is logged when it is the first in a row.
func (p *Prober) note(i int, targets []netip.AddrPort, err error) {
	p.mu.Lock()
	r := &p.resolved[i]
	failing, recovered := err != nil && r.err == nil, err == nil && r.err != nil
	r.done, r.err = true, err
	if err == nil {
		r.targets = targets
	}
	var all []netip.AddrPort
	resolving := false
	for _, r := range p.resolved {
		resolving = resolving || !r.done
		all = append(all, r.targets...)
	}
	p.search.seed(all[:min(len(all), maxTargets)], resolving)
	p.mu.Unlock()
	switch seed := p.cfg.Seeds[i]; {
	case failing:
		p.log.Warn("cannot look up a host to join: trying again and again", "join", seed, "err", err)
	case recovered:
		p.log.Info("a host to join has an address again", "join", seed, "targets", len(targets))
	}
}
