//go:build !unix

package node

// maxConnections is most: the system has no limit of its own.
func maxConnections(most int) int { return most }
