// Package link holds authenticated QUIC links between two nodes of a network.
package link
