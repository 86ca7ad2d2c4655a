// Package overlay knows who is alive, and which nodes host members of a group:
// it finds a node's place among the others, keeps links to some of them and makes
// further ones when they are needed, and pushes a view to whoever watches a group, at
// first and on every change.
//
// It promises: a view follows every change; a member that fell silent is gone from all
// views in about a second (three where much is lost on the way), and one that only stalled for 400 ms is not; what was announced
// and confirmed is in the views of everybody who watches; an address that was offered is
// tried again until it is given up; a message to a member goes to it directly. It does not
// promise that all nodes agree at any moment, nor that a message that was sent arrives: see
// Handler.Lost.
//
// # Who is linked to whom
//
// Ids have a distance, their exclusive or, as in Kademlia. A node keeps links to the 16
// nodes closest to it, to 2 of each bucket beyond them (the nodes that share exactly so many
// leading bits with it), and to those that it has something to do with: the keepers of its
// groups, nodes whose groups it keeps, members that it sends to. With 17 nodes that is a full
// mesh; with n nodes it is O(log n). A node that is sent to without a link is dialled, and what is
// sent waits for that or comes back (queue.go). A link that nobody needs is given up when
// it has not been used for 30 s, by agreement of both ends, so that nothing is on its way.
//
// Whom a node knows besides is in its table: up to 16 nodes of each bucket without a link,
// and those that it lost a link to, which it tries again for an hour: that is how a
// network that was cut in two becomes one again. A lookup asks the closest nodes to an id that
// it knows for closer ones, three at a time, until there are none. It goes on without who has not answered
// within 500 ms. Whoever discovery offers to a node that has peers is looked up first, and dialled only
// if none of those closest to it knows it: else all nodes of a subnet would dial each other.
//
// # Who keeps a group
//
// The 8 nodes closest to a group's key are its keepers. A node that hosts members or wants
// views tells its stance to one of them: itself if it is one, or one that it has a link
// to, or the one closest to its own id, so that they share the work. That keeper answers for
// what it was told, tells it to the other keepers, and pushes views to those who
// watch through it. So a change is one to three hops away from everybody, whatever the size of the network.
//
// A keeper that begins to keep a group first hears the others, then shows views. One that learns of nodes
// that are closer tells those who chose it, and they move to another; they tell the
// new one first, then the old one. When a keeper is lost, its clients find another within a
// second, and the records that it answered for are kept for 10 s until somebody else answers for them. Who
// becomes a keeper in its place is told of those too.
// A record has a version that its node raises with each stance, and who left is
// remembered for a minute, so that older news cannot bring back what is gone.
//
// A view shows up to 256 members whole. Of larger groups it shows the part that is
// described at Handler.View, from which trees over all members can be built.
//
// An announcement is confirmed when the keeper has shown it to all who watch through it
// and all other keepers have done so too. A peer that does not confirm is gone within a second;
// what it should have shown is waited for another second, in which those who watched
// through it have found another keeper.
//
// # Structure
//
// The protocol is a core without sockets, clock or goroutines: step takes an
// event and the time, and returns effects. One loop goroutine owns it (Run). Send
// does not pass through the loop.
//
//	core.go            the core, its events and effects
//	core_alive.go      failure detection
//	core_contacts.go   whom a node knows, and dials
//	core_links.go      links that come, go and are given up
//	core_review.go     which links a node needs
//	core_lookup.go     finding the nodes closest to an id
//	core_groups.go     the stance of this node, and its keepers
//	core_kept.go       what a keeper knows of a group
//	core_keepers.go    the keepers of a group among each other
//	core_views.go      what is shown of a group
//	outbox.go          what a peer is yet to be told, and promises that wait for it
//	overlay.go, run.go, links.go, queue.go, mailbox.go   the shell
//
// # Messages on the control stream
//
// All numbers are big-endian; an address is | 4 | address 4 | port u16 |, | 6 | address 16 |
// port u16 |, or | 0 | for that of the sender. A message that is cut short, has bytes left over
// or breaks a rule below ends the link, and the peer is left alone for a while.
//
//	ping     | 1 | sequence u64 |
//	pong     | 2 | sequence u64 |
//	find     | 3 | nonce u32 | target 32 |
//	found    | 4 | nonce u32 | n u8 | n × contact |
//	stances  | 5 | sequence u64 | n u16 | n × ( group | flags u8 | version u64 | count u32 ) |
//	replica  | 6 | sequence u64 | n u16 | n × ( group | flags u8 | m u16 | m × ( id 32 | address | version u64 | count u32 ) ) |
//	view     | 7 | sequence u64 | flags u8 | key 32 | n u16 | n × ( id 32 | address | count u32 ) |
//	ack      | 8 | sequence u64 |
//	moved    | 9 | key 32 | n u8 | n × contact |
//	release  | 10 |
//	keep     | 11 |
//	leaving  | 12 |
//
//	contact  | id 32 | age u8 | a u8 | a × address |
//	group    | kind u8 | l u8 | name l |
//
// ping: answered by a pong of the same sequence at once. Sent when no packet has come
// for 250 ms (4 s where a link does not matter and there are more than 16), or no control
// message for 2 s.
//
// find: which nodes are closest to target? Answered by found with the same nonce and n ≤ 16
// contacts with 1 ≤ a ≤ 4 addresses each, which were known to live age seconds ago, at most two
// minutes. A new link begins with a found of nonce 0 both ways: the contacts closest to the receiver.
//
// stances: n ≤ 512; flags 1: it watches, 2: it tells another keeper from now on. The version rises.
// replica: what the sender answers for; n ≤ 512, all m together ≤ 512; flags 1: it keeps the group, or else, with m
// = 0, no longer, 2: the receiver is to tell all that it answers for, 4: nobody answers for these. view: n ≤ 512; flags 1: what was told before is void, 2: these are all; count 0: no
// member any more. Each of these is acknowledged, in any order, when what it says is shown as far as the
// receiver sees to that; a sender keeps at most 16 unacknowledged.
//
// moved: the sender should not be the receiver's keeper of the group, others are closer.
//
// release: the sender does not need the link and sends nothing more on it; the receiver closes it, or answers
// keep. If both have sent one, that of the lower id counts as not sent.
//
// leaving: the sender hosts and keeps nothing any more and is about to end. Nobody dials it again, and what it
// tells after this is not looked at.
package overlay
