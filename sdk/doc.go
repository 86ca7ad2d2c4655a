// Package iris is the Go binding of the Iris messaging framework.
//
// A program attaches to the iris node on its own host. A client only asks:
//
//	conn, err := iris.Connect(55555)
//	…
//	defer conn.Close()
//	reply, err := conn.Request(ctx, "demo", []byte("hello"))
//
// A service also answers: it joins a cluster under a name, and every request to
// that name goes to one of the cluster's members.
//
//	service, err := iris.Register(55555, "demo", new(callback), nil)
//	…
//	defer service.Unregister()
//
// # Four patterns
//
// Request asks one member of a cluster, Broadcast tells all of them, Tunnel opens
// an ordered stream of messages to one, and Publish reaches whoever has subscribed
// to a topic. Broadcast and Publish wait for nobody: what a receiver has no room
// for is dropped, by the node and counted there, or here and told in the log (see
// [TopicLimits] and [ServiceLimits]). A tunnel drops nothing: its Send waits until
// the other side receives.
//
// Headers travel with what is sent, such as a trace context: those of a request by
// Call, the others by [WithHeaders]. Handlers that want them are a
// [RequestContextHandler], [BroadcastMessageHandler] or [EventMessageHandler] too;
// a tunnel tells them by [Tunnel.Headers].
//
// # Outcomes
//
// A request ends in exactly one way: with a reply, or with an error that is one
// of [*RemoteError], [ErrTimeout], [ErrNoService], [ErrOverloaded], [ErrLost],
// [ErrCancelled], [ErrTooLarge], [ErrInvalid] and [ErrClosed]. It never outlives
// the deadline of its context. Only after [ErrLost], [ErrTimeout] and
// [ErrCancelled] the service may or may not have run; after [ErrNoService],
// [ErrOverloaded], [ErrTooLarge] and [ErrInvalid] it has not.
//
// # When the node goes away
//
// Requests in flight fail at once with [ErrLost], and tunnels break off with it. The
// connection attaches again by itself, a service under its name, after pauses of 50
// ms to 1 s, and subscribes again to its topics before anything else; requests
// made meanwhile wait for that, bounded by their context. A node that announces
// that it is leaving is given no new requests, those in flight finish, and new
// ones wait likewise. After [WithReconnect]'s limit the connection is given up:
// waiting and later requests fail with an error that is both [ErrNoNode] and
// [ErrClosed], and a service's HandleDrop is called, once.
//
// Everything here is safe for concurrent use.
package iris
