// Package patterns is how applications talk over the overlay. A request goes to
// one member of a named cluster of services, on this node or on another, and ends
// in exactly one outcome. A broadcast goes to all members of a cluster, an event
// to all subscribers of a topic.
//
// # Promises
//
// A request ends in exactly one [Code], which its session gets through
// [Sink.Reply]; the first to end it, under the lock, wins. It is executed at most
// once: only a refusal, or a send that provably failed, also later ([Node.Returned]), lets it go to another
// member; after anything ambiguous it ends as [CodeLost]. Its deadline travels as
// the time that is left, never fires early, and at most some milliseconds late.
// A member that refused a request is not asked again for the same request.
//
// A session's broadcasts and events come in their order, and none twice, to each
// member that has been one all along. A subscription is effective when it is
// confirmed: what is published anywhere after that reaches it (adr/0006). Publishers
// do not wait for members: one without credit misses the message, which is
// counted, and so does a node that a link has no room to, after the sender has waited for a second, or that
// cannot be reached.
//
// A tunnel ends once at each end: both sides have finished, and everything has
// come; or it is aborted, by a session or because something is lost, and what has
// come is a prefix of what was sent. An open goes to another member only if it was
// refused or provably not sent. Who may send how much is between the applications;
// a peer that sends more breaks its tunnel. Messages of a tunnel are drawn in
// tunnel_message.go.
//
// # Not promised
//
// Requests of one session to one member node leave in order, but nothing orders
// their execution. Nothing is kept for a member that is away. Broadcasts and
// events are best effort: they are lost with the nodes that hand them on where more than
// one of these goes at a time, and where links have no room.
//
// # Messages to all of a group
//
// Up to 16 nodes get them from the sender's node, if it knows that these are all. To more of
// them they go through a tree. Ids form a ring, the first following the last. The sender's node sees
// to the whole ring, from itself on. It cuts the nodes that it knows into at most 16 chunks
// and sends a copy to the first of each, its delegate, which sees to the ids from its own to the
// next chunk, and does the same with them in its own view. Where it is known that nobody but the
// delegate is there, it has nothing to see to.
//
// No node needs to know all members. One in a large group knows those around itself without a
// gap, and of the others the fewer the farther they follow it (see overlay.Handler). So a delegate,
// being the first of what it sees to, knows more about it than who has sent it there; and as
// every id is in one chunk, whether anybody is known to have it or not, all are reached
// once, though views differ. The largest gap that a node knows nothing about is an eighth of what it sees
// to where that is 2^j ids, and a fifth at most: ids being hashes, that is how fast
// chunks shrink. Whole views of up to 256 members take 2 hops, groups of 4,000 take 4 to 5, those of
// 100,000 take 6; 16 are possible. The rest is for going around nodes.
//
// No node sends more than 16 copies of a message, unless it goes around others. The delegates stay
// the same while the view does, so that messages do not overtake each other. What was delegated
// is kept for 1.5 s. When the delegate is lost in that time, or could not be reached, the chunk is cut
// anew without it. Its beginning, up to the next known node, goes to the last known node before it, though that
// is not in it: it knows more members there, being nearer to them.
//
// Members remember how far they are with each session that sends to the group: they
// drop what they have had, and hold back what comes before the message that
// it names as its predecessor, for at most 1.5 s (0.1 s where they have just become
// members, because it may be from before), 256 messages and 1 MiB of a session.
//
// # Concurrency
//
// [Node] may be used by any number of goroutines, a [Port] by one at a time.
// One mutex guards all tables; neither a [Sink] nor the [Overlay] is called
// while it is held. Run alone calls Announce, Watch and Unwatch, so these cannot
// overtake each other. A [Tunnel] has a mutex of its own, for which the same holds;
// a goroutine, which Run waits for, opens the stream of a tunnel. A message costs no goroutine, channel or timer, nor, outside of trees, an allocation.
//
// # Messages between nodes
//
// Integers are big-endian. The last field takes the rest of the message.
//
//	request  | 1 | id 8 | flow 4 | budget 4 | cluster n 2 | headers n 4 | cluster | headers | payload |
//	reply    | 2 | id 8 | code 1 | text n 4 | headers n 4 | text | headers | payload |
//	refusal  | 3 | id 8 | reason 1 | headers n 4 | headers | payload |
//	cancel   | 4 | id 8 |
//	to all   | 5 or 6 | 0 | hops 1 | flow 4 | sequence 8 | name n 2 | headers n 4 | name | headers | payload |
//	to all   | 5 or 6 | 1 | hops 1 | flow 4 | sequence 8 | name n 2 | headers n 4 |
//	         | previous 8 | origin 32 | lo 32 | hi 32 | name | headers | payload |
//
// The id is the requester's: a generation in the upper 44 bits, an index in the
// lower 20. Within an index the generation only rises, so a node that remembers
// the last one of each index of a peer recognises a second copy of a request.
// The flow is that on which the reply shall come. The budget is in milliseconds,
// rounded up, 2^32-1 being none. The reason is 1 overloaded, 2 draining, 3 no
// member here; a refusal returns headers and payload of the request, which the
// requester's node has not kept (adr/0003).
//
// To all of a group: 5 is a broadcast to the cluster, 6 an event for the topic. Hops is how often the
// message may be sent yet, this time included, 1 to 16. The flow is the sender's session, and
// the sequence grows with each of its broadcasts and events, from 1. In the second form the receiver
// sees to the nodes from lo to hi on the ring, itself included: it is lo, or it is not among them. Both are
// its own id where it has nobody to see to. Origin is the sender's node, which is the peer in the first form. Previous is the
// sequence of the session's message to the group before this one, 0 if there was
// none within 1.5 s.
package patterns
