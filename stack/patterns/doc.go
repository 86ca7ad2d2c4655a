// Package patterns is request/reply over the overlay: a request goes to one
// member of a named cluster of services, on this node or on another, and ends in
// exactly one outcome.
//
// # Promises
//
// A request ends in exactly one [Code], which its session gets through
// [Sink.Reply]; the first to end it, under the lock, wins. It is executed at most
// once: only a refusal, or a send that provably failed, lets it go to another
// member; after anything ambiguous it ends as [CodeLost]. Its deadline travels as
// the time that is left, never fires early, and at most some milliseconds late.
// A member that refused a request is not asked again for the same request.
//
// # Not promised
//
// Requests of one session to one member node leave in order, but nothing orders
// their execution. Nothing is kept for a member that is away.
//
// # Concurrency
//
// [Node] may be used by any number of goroutines, a [Port] by one at a time.
// One mutex guards all tables; neither a [Sink] nor the [Overlay] is called
// while it is held. Run alone calls Announce, Watch and Unwatch, so these cannot
// overtake each other. A message costs no goroutine, channel, timer or allocation.
//
// # Messages between nodes
//
// Integers are big-endian. The last field takes the rest of the message.
//
//	request  | 1 | id 8 | flow 4 | budget 4 | cluster n 2 | headers n 4 | cluster | headers | payload |
//	reply    | 2 | id 8 | code 1 | text n 4 | headers n 4 | text | headers | payload |
//	refusal  | 3 | id 8 | reason 1 | headers n 4 | headers | payload |
//	cancel   | 4 | id 8 |
//
// The id is the requester's: a generation in the upper 44 bits, an index in the
// lower 20. Within an index the generation only rises, so a node that remembers
// the last one of each index of a peer recognises a second copy of a request.
// The flow is that on which the reply shall come. The budget is in milliseconds,
// rounded up, 2^32-1 being none. The reason is 1 overloaded, 2 draining, 3 no
// member here; a refusal returns headers and payload of the request, which the
// requester's node has not kept (adr/0003).
package patterns
