// Package wire is the codec of the relay protocol: the frames that an
// application and the node on its own host exchange.
package wire
