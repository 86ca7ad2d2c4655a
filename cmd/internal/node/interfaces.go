package node

import (
	"context"
	"slices"
	"time"
)

// interfacesInterval is how soon a node that looks on all interfaces notices a new one.
const interfacesInterval = 3 * time.Second

// watchInterfaces follows the interfaces that list lists until ctx is done. When one comes or
// goes the list may fail; the next one will do.
func (n *Node) watchInterfaces(ctx context.Context, list func() ([]nic, error)) {
	ticker := time.NewTicker(interfacesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		nics, err := list()
		if err == nil {
			err = n.lookOn(choosePlace(nics))
		}
		if err != nil {
			n.log.Debug("cannot follow the network interfaces", "err", err)
		}
	}
}

// lookOn has discovery look on p from now on.
func (n *Node) lookOn(p place) error {
	was := n.where.Load()
	if slices.Equal(p.looked, was.looked) {
		return nil
	}
	if err := n.network.prober.SetReach(p.reach()); err != nil {
		return err
	}
	n.where.Store(&p)
	for _, s := range missing(p.looked, was.looked) {
		n.log.Info("no longer looking for other nodes", "interface", s.Interface, "addr", s.Address, "subnet", s.Probed)
	}
	n.tell(missing(was.looked, p.looked))
	return nil
}

// missing lists what of all is not in some, or not but for its multicast, which comes a moment after the rest.
func missing(some, all []Subnet) []Subnet {
	return slices.DeleteFunc(slices.Clone(all), func(s Subnet) bool {
		return slices.ContainsFunc(some, func(o Subnet) bool { o.Multicast = s.Multicast; return o == s })
	})
}

// tell logs where the node looks, and what keeps it from looking further.
func (n *Node) tell(looked []Subnet) {
	for _, s := range looked {
		n.log.Info("looking for other nodes", "interface", s.Interface, "addr", s.Address, "subnet", s.Probed)
		switch {
		case s.Address.Bits() == 32 && len(n.cfg.Join) == 0:
			n.log.Warn("the mask is /32: no other host can be found by probing, name some with -join HOST", "interface", s.Interface, "addr", s.Address)
		case s.Address.Bits() < widestBits:
			n.log.Warn("the subnet is too large to be swept: only a part around the own address is, name nodes elsewhere with -join HOST",
				"interface", s.Interface, "addr", s.Address, "subnet", s.Probed)
		}
	}
}
