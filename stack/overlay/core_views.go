package overlay

import (
	"fmt"
	"slices"

	"github.com/project-iris/iris/stack/link"
)

// watch: views of the group are wanted, the first one now.
type watch struct{ group Key }

func (e watch) apply(c *core) {
	c.watched[e.group] = true
	c.push(e.group)
}

// unwatch: they are no longer.
type unwatch struct{ group Key }

func (e unwatch) apply(c *core) { delete(c.watched, e.group) }

func (c *core) push(group Key) {
	c.emit(pushView{group, slices.Clone(c.groups[group].Members)})
}

// receive updates the groups with a peer's records and acknowledges them: the
// views come first.
func (m records) receive(c *core, p *peer) error {
	if p.leaving || p.synced && m.synced {
		return fmt.Errorf("%w: records out of place", errMalformed)
	}
	for _, r := range m.list {
		old, known := p.records[r.group]
		switch {
		case known && r.version <= old.version:
			return fmt.Errorf("%w: version %d after %d", errMalformed, r.version, old.version)
		case r.count == 0:
			delete(p.records, r.group)
		case !known && len(p.records) == maxPeerRecords:
			return fmt.Errorf("%w: more than %d records", errMalformed, maxPeerRecords)
		default:
			p.records[r.group] = r
		}
		c.setMember(r.group, p.id, int(r.count))
	}
	p.synced = p.synced || m.synced
	c.acknowledge(p)
	return nil
}

// acknowledge confirms one more message to a peer, after the views.
func (c *core) acknowledge(p *peer) {
	p.received++
	c.send(p, ack{p.received})
}

// setMember sets how many members of a group a node hosts, and pushes the view
// when that is watched and changed.
func (c *core) setMember(group Group, node link.ID, count int) {
	key := group.Key()
	members := c.groups[key].Members
	i, found := findMember(members, node)
	switch {
	case found && members[i].Count == count, !found && count == 0:
		return
	case count == 0:
		members = slices.Delete(members, i, i+1)
	default:
		members = withMember(members, node, count)
	}
	if len(members) == 0 {
		delete(c.groups, key)
	} else {
		c.groups[key] = GroupInfo{group, members}
	}
	if c.watched[key] {
		c.push(key)
	}
}

// findMember is the place of a node among members that are sorted by id.
func findMember(members []Member, node link.ID) (int, bool) {
	return slices.BinarySearchFunc(members, node, func(m Member, id link.ID) int { return m.Node.Compare(id) })
}

// withMember sets the count of a node in members, whose array it may change.
func withMember(members []Member, node link.ID, count int) []Member {
	i, found := findMember(members, node)
	if found {
		members[i].Count = count
		return members
	}
	return slices.Insert(members, i, Member{node, count})
}
