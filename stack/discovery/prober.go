package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is the socket as discovery sees it: *link.Transport is one.
type Conn interface {
	// ReadProbe waits for a datagram whose first byte is below 0x40, copies what
	// fits into b and returns the number of bytes copied and the sender. It
	// returns an error when ctx is done, one that is net.ErrClosed when the
	// socket is closed for good. It is called by one goroutine at a time.
	ReadProbe(ctx context.Context, b []byte) (int, netip.AddrPort, error)
	// WriteProbe sends the datagram b to addr. It is safe for concurrent use,
	// does not keep b and does not block for long.
	WriteProbe(b []byte, addr netip.AddrPort) error
	// ThinProbes has the system drop at random, of the datagrams that ReadProbe is for,
	// before they cost anything: of those with word at offset it keeps one in
	// with, of the others one in without. 0 and 1 keep all.
	ThinProbes(offset int, word uint16, with, without uint32) error
}

// Config is what a Prober needs to know.
type Config struct {
	Conn    Conn
	Secrets [][]byte         // MAC keys of at least 16 bytes: the first signs, all are accepted
	Self    [32]byte         // node id that probes carry
	Mark    Mark             // of the key that signs; zero says nothing
	Exclude netip.AddrPort   // own address; if its IP is in Subnets, its other ports are probed first
	Last    []netip.AddrPort // where peers were in an earlier life: probed before all else, in this order
	Seeds   []Seed           // hosts to probe wherever they are; names are looked up again and again
	Lookup  Lookup           // of names of seeds; if nil, the system's
	Reach
	// Calls opens the socket of calls, which Run closes; if nil, or if it fails, there are none. ListenCalls is one.
	Calls func() (CallConn, error)
	Known func() []netip.AddrPort // peers that need no probing, asked for a few times a second; may be nil
	Log   *slog.Logger            // if nil, nothing is logged
}

// A Prober looks for nodes of its network and answers those that look for it.
// Safe for concurrent use.
type Prober struct {
	cfg       Config
	log       *slog.Logger
	keys      atomic.Pointer[keySet] // replaced as a whole by SetSecrets
	challenge [32]byte               // key of the challenges
	epoch     time.Time
	fields    []*field // handed over to the search by Run
	started   atomic.Bool
	converged chan struct{}
	counters  counters
	strangers strangers
	floods    floods
	wake      chan struct{} // a token has the sender look again at once
	// broadcasts are those of the Reach there is now; replaced as a whole.
	broadcasts atomic.Pointer[[]netip.Prefix]
	callers    atomic.Pointer[[]Caller] // as well

	cannotThin bool // the last try failed; owned by send

	mu       sync.Mutex // guards the fields below
	search   *search    // set by Run
	resolved []resolved // one for each seed
}

// New checks cfg. It starts nothing and keeps no reference to the slices in cfg.
func New(cfg Config) (*Prober, error) {
	if cfg.Conn == nil {
		return nil, errors.New("discovery: no socket to probe with")
	}
	reach, fields, err := cfg.Reach.lay()
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	cfg.Reach = reach
	if len(fields)+len(cfg.Seeds)+len(cfg.Last) == 0 {
		return nil, errors.New("discovery: no subnet to probe and no seed")
	}
	if len(cfg.Seeds) > maxSeeds {
		return nil, fmt.Errorf("discovery: %d seeds: at most %d are possible", len(cfg.Seeds), maxSeeds)
	}
	cfg.Last, cfg.Seeds = slices.Clone(cfg.Last), slices.Clone(cfg.Seeds)
	cfg.Exclude = unmapped(cfg.Exclude)
	p := &Prober{cfg: cfg, log: cfg.Log, fields: fields, epoch: time.Now(), converged: make(chan struct{}), wake: make(chan struct{}, 1)}
	p.broadcasts.Store(&reach.Broadcast)
	p.callers.Store(&reach.Callers)
	p.resolved = make([]resolved, len(cfg.Seeds))
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := p.SetSecrets(cfg.Mark, cfg.Secrets); err != nil {
		return nil, err
	}
	p.cfg.Secrets = nil
	if _, err := rand.Read(p.challenge[:]); err != nil {
		return nil, fmt.Errorf("discovery: make a key: %w", err)
	}
	return p, nil
}

// Run probes until ctx is done and then returns nil. It calls found, from one
// goroutine, for each authenticated node heard of; a node that stays
// is reported again from time to time, at most once a second per address. The address is
// a hint, not a proof. Found must not block. Run fails if the socket is closed under it, or if it was called before.
func (p *Prober) Run(ctx context.Context, found func(id [32]byte, addr netip.AddrPort)) error {
	if p.started.Swap(true) {
		return errors.New("discovery: a Prober runs only once")
	}
	p.mu.Lock()
	p.search = p.cfg.newSearch(time.Now(), p.fields)
	p.mu.Unlock()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var others sync.WaitGroup
	others.Go(func() {
		if err := p.receive(ctx, found); err != nil {
			cancel(err)
		}
	})
	others.Go(func() { p.resolve(ctx) })
	mouth := p.openCalls()
	if mouth != nil {
		others.Go(func() { p.hearCalls(ctx, mouth) })
	}
	p.send(ctx, mouth)
	others.Wait()
	if err := context.Cause(ctx); errors.Is(err, errSocket) {
		return err
	}
	return nil
}

// errSocket marks the failure that ends Run.
var errSocket = errors.New("discovery: the socket was closed while probing")

// Converged is closed when the first port of every address of small subnets
// was probed, large ones (beyond /22) were probed for about 2 s, and nothing new has
// appeared for a short while. It may be called before Run and does not close without it.
func (p *Prober) Converged() <-chan struct{} { return p.converged }

// Counts says how many datagrams were handled since New.
func (p *Prober) Counts() Counts { return p.counters.snapshot() }

// write sends a datagram, counts what goes wrong, and tells whether it was
// sent. The first failure of a sort is logged, the others are only counted.
func (p *Prober) write(b []byte, addr netip.AddrPort) bool {
	err := p.cfg.Conn.WriteProbe(b, addr)
	if err == nil {
		return true
	}
	if f := failureOf(err); p.counters.failed[f].Add(1) == 1 {
		p.log.Warn("cannot send probes: more errors of this sort are only counted", "sort", f, "addr", addr, "err", err)
	}
	return false
}
