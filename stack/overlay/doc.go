// Package overlay knows who is alive, and which nodes host members of a group:
// it keeps links to other nodes, tells them what this node hosts, and pushes a
// view to whoever watches a group, at first and on every change.
//
// It promises: a view follows every change that a linked peer announces, in
// that peer's order; a peer that fell silent is gone from all views in less than
// a second, and one that only stalled for 400 ms is not; what was announced and
// confirmed is in the views of every peer; an address that was offered is tried
// again until it is given up. It does not promise that all nodes agree at any
// moment, nor that a message that was sent arrives: see Handler.Lost.
//
// # First step: a full mesh
//
// Every node keeps a link to every node that it learns of, and tells each of
// them all of its own records, so that a watch is served from what is stored
// here. Links, heartbeats and records then grow with the number of nodes, and
// the network's total with its square: it is made for some dozens of nodes. The
// exported interface says none of this: views are pushed and messages go
// straight to a member's node, so that records can move to the nodes closest to
// their key without a change above.
//
// # Structure
//
// The protocol is a core without sockets, clock or goroutines: step takes an
// event and the time, and returns effects. One loop goroutine owns it (Run). Send
// does not pass through the loop.
//
// # Messages on the control stream
//
// All numbers are big-endian. A message that is cut short, has bytes left over or
// breaks a rule below ends the link, and the peer is left alone for a while.
//
//	heartbeat  | 1 | sequence u64 | echo u64 |
//	peers      | 2 | n u16 | n × ( id 32 | a u8 | a × ( 4 | address 4 | port u16 ) or ( 6 | address 16 | port u16 ) ) |
//	records    | 3 | synced u8 | n u16 | n × ( kind u8 | l u8 | name l | version u64 | count u32 ) |
//	ack        | 4 | sequence u64 |
//	leaving    | 5 |
//
// heartbeat: every 250 ms. The sequence grows with each; echo is the highest
// sequence heard from the receiver, and 0 before the first. Any packet that comes
// on a link is a sign of life.
//
// peers: other nodes that the sender has links to, n ≤ 1,000, with 1 ≤ a ≤ 4
// addresses each. Sent when a link is new (all of them to the new peer, the new
// one to all others).
//
// records: how many members of a group the sender itself hosts, n ≤ 512; 0 takes
// the record away. The version of a group grows with each record of it on a link.
// The key of the group is computed from kind and name.
// A new link begins with all of the sender's records; the message that completes
// them has synced = 1, once and also when there are none, all others 0. Records
// live as long as the link that they came on: a node that restarts has a new id.
//
// ack: the number of records and leaving messages of this link that the
// receiver's views show by now. A sender keeps at most 16 of them unconfirmed.
//
// leaving: the sender hosts nothing any more and is about to end. Nobody dials it
// again.
package overlay
