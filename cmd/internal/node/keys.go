package node

import (
	"context"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/project-iris/iris/stack/link"
)

// keysEvery is how often a node looks whether its keys have changed. A change is
// taken when two looks have found the same, so that a file is not read while it is
// being written.
const keysEvery = time.Second

// probeSecret is the purpose of the secrets of probes.
const probeSecret = "probe"

// A KeySource is where a node's keys are, such as a file. It is used by one
// goroutine at a time.
type KeySource interface {
	// Stamp tells, at little cost, whether what Read gives may have changed since
	// another Stamp: then it is another.
	Stamp() string
	// Read reads the keys.
	Read() ([]*rsa.PrivateKey, error)
}

// Keys is what a node tells about its keys. A key is named by the first 8 hex
// digits of the SHA-256 of its public key.
type Keys struct {
	Signs    string    `json:"signs"`            // the key that signs this node's certificate and probes
	Accepts  []string  `json:"accepts"`          // the other ones that are accepted of peers
	Loaded   time.Time `json:"loaded"`           // when they were read last
	Failed   string    `json:"failed,omitempty"` // why they could not be read since; those from before are in use
	FailedAt time.Time `json:"failed_at,omitzero"`
}

// keys holds the layers that use the network's keys to what KeysIn has.
type keys struct {
	name   string
	source KeySource // nil if the keys do not change
	reload <-chan os.Signal
	log    *slog.Logger
	users  remote // set before watch runs

	// owned by watch
	looked string // the stamp at the last look
	read   string // the stamp at the last reading

	mu    sync.Mutex // guards the field below
	state Keys
}

// newKeys reads the keys that a node starts with.
func newKeys(cfg Config, log *slog.Logger) (*keys, *link.Network, error) {
	k := &keys{name: cfg.Network, source: cfg.KeysIn, reload: cfg.Reload, log: log}
	if k.source == nil {
		network, err := link.NewNetwork(cfg.Network, cfg.Keys...)
		if err == nil {
			k.took(network)
		}
		return k, network, err
	}
	k.read = k.source.Stamp()
	k.looked = k.read
	network, err := k.fetch()
	if err == nil {
		k.took(network)
	}
	return k, network, err
}

// watch takes changes of the keys until ctx is done.
func (k *keys) watch(ctx context.Context) error {
	if k.source == nil {
		<-ctx.Done()
		return nil
	}
	look := time.NewTicker(keysEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.reload:
			k.looked = k.source.Stamp()
			k.load()
		case <-look.C:
			before := k.looked
			k.looked = k.source.Stamp()
			if k.looked == before && k.looked != k.read {
				k.load()
			}
		}
	}
}

// load reads the keys and gives them to who uses them. If it fails, everything
// stays as it is.
func (k *keys) load() {
	k.read = k.looked
	network, err := k.fetch()
	if err == nil {
		err = k.use(network)
	}
	if err != nil {
		k.log.Error("the network's keys cannot be read again: those from before stay in use", "err", err)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.state.Failed, k.state.FailedAt = err.Error(), time.Now()
		return
	}
	k.took(network)
	now := k.status()
	k.log.Info("network keys read again", "signs", now.Signs, "accepts", now.Accepts)
}

func (k *keys) fetch() (*link.Network, error) {
	private, err := k.source.Read()
	if err != nil {
		return nil, err
	}
	return link.NewNetwork(k.name, private...)
}

// use has probes and links go by the keys. Probes come first: what they find with a
// new key has to be able to link.
func (k *keys) use(network *link.Network) error {
	if err := k.users.prober.SetSecrets(mark(network.Keys()[0]), network.Secrets(probeSecret)); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := k.users.transport.Rekey(network); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// took notes that the keys of network are in use.
func (k *keys) took(network *link.Network) {
	state := Keys{Accepts: []string{}, Loaded: time.Now()}
	for i, id := range network.Keys() {
		if i == 0 {
			state.Signs = id.String()
		} else {
			state.Accepts = append(state.Accepts, id.String())
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = state
}

// status is a copy of what a node tells. Nobody changes the slice.
func (k *keys) status() Keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// peerKeys adds this node's keys to s and tells those of the peers.
func (n *Node) peerKeys(s *Status) map[link.ID]string {
	if n.keys == nil {
		return nil
	}
	own := n.keys.status()
	s.Keys = &own
	names := make(map[link.ID]string)
	for id, key := range n.network.transport.PeerKeys() {
		if key != (link.KeyID{}) {
			names[id] = key.String()
		}
	}
	return names
}
