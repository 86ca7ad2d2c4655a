// Package conformance proves bindings and relays against the relay protocol.
package conformance
