// Package overlay keeps the nodes of a network linked and tells who serves what.
package overlay
