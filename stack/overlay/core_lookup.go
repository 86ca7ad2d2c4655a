package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/project-iris/iris/stack/link"
)

const (
	sure      = 3                      // so many are asked at a time, until the closest have answered
	maxShort  = 32                     // nodes that a lookup considers
	maxDepth  = 16                     // hops away from what this node knew
	slowAfter = 500 * time.Millisecond // a lookup goes on without who has not answered
	queryWait = 3 * time.Second        // for an answer
)

// A lookup finds the nodes closest to a target: it asks the closest it knows for
// closer ones until there are none.
type lookup struct {
	target link.ID
	list   []*candidate // the closest first
	depth  int          // of the deepest that was asked
	brief  bool         // only those that it began with are asked
	linked bool         // only those with a link are
	then   func(c *core, l *lookup)
}

// A candidate is a node that a lookup knows of.
type candidate struct {
	contactInfo
	depth int
	state queryState
	asked time.Time
}

type queryState int

const (
	notAsked queryState = iota
	askedNow
	answered
	failed
)

// A query is a find message that was sent to a candidate of a lookup.
type query struct {
	of    *lookup
	whom  *candidate
	until time.Time
}

// lookup starts one; then gets its result, at once where this node has links to all
// whom it knows and they are few.
func (c *core) lookup(target link.ID, then func(c *core, l *lookup)) {
	c.start(&lookup{target: target, then: then})
}

// start begins a lookup with whom this node knows.
func (c *core) start(l *lookup) {
	all := true
	for _, k := range c.nearest(l.target, maxShort, (*contact).usable) {
		l.add(c.info(k), 0)
		all = all && k.peer != nil
	}
	if all && len(l.list) <= closePeers {
		for _, w := range l.list {
			w.state = answered
		}
	}
	c.lookups = append(c.lookups, l)
	c.advance(l)
}

// answered tells whether anybody has.
func (l *lookup) answered() bool {
	return slices.ContainsFunc(l.list, func(w *candidate) bool { return w.state == answered })
}

// add notes a candidate.
func (l *lookup) add(info contactInfo, depth int) {
	i, found := slices.BinarySearchFunc(l.list, info.id, func(w *candidate, id link.ID) int { return closer(l.target, w.id, id) })
	if found || i == maxShort || depth > maxDepth {
		return
	}
	l.list = slices.Insert(l.list, i, &candidate{contactInfo: info, depth: depth})
	l.list = l.list[:min(len(l.list), maxShort)]
}

// advance asks whom it needs to, or ends the lookup.
func (c *core) advance(l *lookup) {
	if l.then == nil {
		return
	}
	var next []*candidate
	asking, closest := 0, 0
	for _, w := range l.list {
		if w.state == failed || l.linked && c.peer(w.id) == nil {
			continue
		}
		if w.state == askedNow {
			asking++
		} else if w.state == notAsked && (!l.brief || w.depth == 0) {
			next = append(next, w)
		}
		if closest++; closest == sure {
			break
		}
	}
	settled := asking == 0 && len(next) == 0
	for _, w := range next {
		c.query(l, w)
	}
	if settled && l.then != nil {
		then := l.then
		l.then = nil
		then(c, l)
	}
}

// query asks a candidate, once there is a link to it.
func (c *core) query(l *lookup, w *candidate) {
	w.state, w.asked = askedNow, c.now
	l.depth = max(l.depth, w.depth)
	c.want(w.id, w.addrs, c.seenAt(w.contactInfo), func(p *peer) {
		if p == nil {
			w.state = failed
			c.advance(l)
			return
		}
		if c.nonce++; c.nonce == 0 {
			c.nonce++ // 0 is what nobody asked for
		}
		c.queries[c.nonce] = query{l, w, c.now.Add(queryWait)}
		c.send(p, find{c.nonce, l.target})
	})
}

// failQueries ends the queries to a node that was lost.
func (c *core) failQueries(id link.ID) {
	c.endQueries(func(q query) bool { return q.whom.id == id })
}

// hurryLookups takes candidates that are slow for failed. An answer that comes before the lookup has ended
// counts all the same.
func (c *core) hurryLookups() {
	lookups := c.lookups
	c.lookups = nil // others may begin
	for _, l := range lookups {
		for _, w := range l.list {
			if w.state == askedNow && c.now.Sub(w.asked) >= slowAfter {
				w.state = failed
			}
		}
		c.advance(l)
		if l.then != nil {
			c.lookups = append(c.lookups, l)
		}
	}
}

// expireQueries ends those that were not answered in time.
func (c *core) expireQueries() {
	c.endQueries(func(q query) bool { return !c.now.Before(q.until) })
}

func (c *core) endQueries(which func(query) bool) {
	var ended []uint32
	for nonce, q := range c.queries {
		if which(q) {
			ended = append(ended, nonce)
		}
	}
	slices.Sort(ended)
	for _, nonce := range ended {
		q := c.queries[nonce]
		delete(c.queries, nonce)
		q.whom.state = failed
		c.advance(q.of)
	}
}

// receive answers with the contacts closest to the target.
func (m find) receive(c *core, p *peer) error {
	c.send(p, found{m.nonce, c.tellable(p, m.target)})
	return nil
}

// receive learns contacts, and goes on with the lookup that asked for them.
func (m found) receive(c *core, p *peer) error {
	c.learnAll(m.list)
	if m.nonce == 0 {
		p.greeted = true
		return nil
	}
	q, ok := c.queries[m.nonce]
	if !ok {
		return nil // it came too late
	}
	if q.whom.id != p.id {
		return fmt.Errorf("%w: an answer that was asked of another", errMalformed)
	}
	delete(c.queries, m.nonce)
	q.whom.state = answered
	for _, info := range m.list {
		// Who was just lost here is still told of by those who have not noticed.
		if k := c.contacts[info.id]; info.id != c.self && (k == nil || k.usable()) {
			q.of.add(info, q.whom.depth+1)
		}
	}
	c.advance(q.of)
	return nil
}

func (c *core) learnAll(list []contactInfo) {
	for _, info := range list {
		if k := c.learn(info.id, info.addrs, c.seenAt(info), false); k != nil {
			k.stranger = false
		}
	}
}

// seenAt is when a contact that somebody told of was known to live.
func (c *core) seenAt(info contactInfo) time.Time {
	return c.now.Add(-time.Duration(info.age) * time.Second)
}

// join finds this node's place: the nodes closest to it, and some of each bucket.
func (c *core) join() {
	c.joining, c.joined = true, c.now
	c.lookup(c.self, func(c *core, _ *lookup) { c.joining, c.stale = false, true })
}

// refill looks for nodes of a bucket.
func (c *core) refill(bucket int) {
	c.refreshed[bucket] = c.now
	var random link.ID
	for i := range random {
		random[i] = byte(c.rng.Uint32())
	}
	c.lookup(within(c.self, bucket, random), func(c *core, _ *lookup) { c.stale = true })
}
