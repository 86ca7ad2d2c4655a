// Package link connects the nodes of a network: one authenticated, encrypted
// QUIC connection per pair of nodes, and one more if there are tunnels between
// them, over one UDP socket that it lends to discovery.
//
// # Promises
//
// A link comes up only between two nodes that hold a key of the same network,
// and each knows the other's [ID] for certain. Two nodes have at most one link,
// whoever dialled, also when both did. Messages of one flow arrive in order,
// whole, once, or the link goes down. The control stream is not delayed by
// messages. Nothing that a peer sends makes a node keep more memory for it than
// the windows and limits below.
//
// It does not promise that a message accepted by [Conn.Send] arrives: a link may
// go down, and then Down tells.
//
// # Identity
//
// An RSA key of the network acts as a certificate authority. From key and
// network name every node rebuilds the same self-signed CA certificate, which is
// never sent; at each start a node makes a fresh P-256 key, and the first RSA
// key signs a leaf certificate for it. The leaf names network and node in its
// only subject alternative name
//
//	iris://<label>/<node id>
//
// where the label is derived from key and name (the name itself is never sent)
// and the node id is the SHA-256 of the leaf's public key. Certificates do not
// expire while clocks are anywhere near sane: a leaf's key dies with its
// process, so dates would protect nothing, but would let a wrong clock split a
// network. The remedy for a lost key is another key.
//
// # Changing keys
//
// A running node can be given other keys ([Transport.Rekey]). Its own key, and so
// its id, stay: the new first key signs a new leaf for it. Links are not made anew.
// On each the node tells the new leaf, on the control stream:
//
//	0          4        8
//	+----------+--------+-------------+
//	| fffffffd | length | leaf in DER |
//	+----------+--------+-------------+
//
// That the peer holds the leaf's private key it has proved in the handshake, so
// another leaf for the same public key proves as much as another handshake would. A
// leaf of a key that the receiver does not accept yet is kept, and looked at again
// when the receiver's own keys change; a leaf with another public key, or more of
// them than a node has reason for, ends the link. A link stands under the key of
// the last leaf that was accepted; a node that removes that key closes the link. So a
// network changes its key without losing a message: all nodes accept the new key
// first, then all sign with it, then all remove the old one.
//
// # Streams
//
// The dialler opens one bidirectional stream, the control stream. Each side opens
// up to four unidirectional ones, its lanes: flow modulo four is the lane. All
// carry messages, big-endian:
//
//	0        4
//	+--------+-----------------+
//	| length | length bytes    |
//	+--------+-----------------+
//
// Two lengths stand alone on lanes, and are a barrier (see [Conn.Sync]):
//
//	0          4              0          4
//	+----------+              +----------+
//	| ffffffff | mark         | fffffffe | echo
//	+----------+              +----------+
//
// A round is one mark on each lane. When the last mark of a round is there, and
// all that came before the marks has been handled, the receiver puts an echo on
// each of its own lanes. The next round begins when the last echo is there. Marks
// and echoes do not count to what a lane may hold. A second mark on a lane within a
// round, an echo of nothing, or more rounds at once than a lane has room for echoes
// end the link.
//
// # Opening
//
// The first message each way on the control stream is the hello:
//
//	0         2             6
//	+---------+-------------+- - - - - -+
//	| version | max message |  ignored  |
//	+---------+-------------+- - - - - -+
//
// The node with the lower id decides which connection of a pair stays. Its hello
// is the confirmation: it sends it only after it has reserved the place of that
// peer. Every other connection with the same peer it closes as a duplicate. The
// dialler speaks first. So a link is up at the higher id when the lower's hello
// is there; and at the lower when it has answered a hello (as the one dialled) or
// got the answer (as the dialler).
//
// A peer whose link was ended because it broke these rules gets no other, dialled
// or accepted, for ten seconds.
//
// # Trunks
//
// Tunnels have streams of their own (see [Stream]), on a second connection, a
// trunk: thousands of streams shall not slow down lanes, nor their windows be
// part of a lane's. A trunk is a QUIC connection with the ALPN "iris/1+streams",
// the same certificates and the same checks. A node dials one when it opens a
// stream and there is none, to the address of the link. It is refused unless it
// comes from a node that has a link here; a link has at most one from each side,
// the newest. If both dialled at once, both stay, and each side uses its own.
// It has no hello and no control stream: each bidirectional stream carries
// messages of at most 128 KiB, framed like those of lanes, without marks; FIN
// ends a direction, and a reset or STOP_SENDING with a [Reason] both. A trunk ends
// with its link; one that breaks breaks its own streams only. Who opens another
// bidirectional stream on a link than the control stream ends that link.
package link
