package discovery

import (
	"encoding/binary"
	"time"
)

// thinInterval is how often is looked whether a flood is over.
const thinInterval = time.Second

// thin has the system follow the floods. It returns when to call it again at the
// latest; 0 while nothing is dropped. The sender calls it.
func (p *Prober) thin(now time.Time) time.Duration {
	want, have := p.floods.wanted(now, p.keys.Load().mark)
	p.mu.Lock()
	p.search.deaf = have.keep[marked] > 0
	p.mu.Unlock()
	if want != have {
		mark := binary.BigEndian.Uint16(want.mark[:])
		err := p.cfg.Conn.ThinProbes(offsetMark, mark, uint32(want.keep[marked]), uint32(want.keep[unmarked]))
		if err == nil {
			p.floods.thinnedAs(want)
			p.tellFloods(want, have)
		} else if !p.cannotThin {
			p.log.Warn("a flood of forged probes: the system cannot drop them, so each is looked at", "err", err)
		}
		p.cannotThin = err != nil
	}
	if want == have && want == (thinning{}) {
		return 0
	}
	return thinInterval
}

// tellFloods logs floods that begin and end.
func (p *Prober) tellFloods(now, before thinning) {
	for c := range classes {
		switch {
		case now.keep[c] > 0 && before.keep[c] == 0:
			p.log.Warn("a flood of forged probes: most are dropped unseen until it is over", "probes", c, "one_seen_in", now.keep[c])
		case now.keep[c] == 0 && before.keep[c] > 0:
			p.log.Info("the flood of forged probes is over", "probes", c)
		}
	}
}
