// Package relay is the local endpoint that applications attach to.
package relay
