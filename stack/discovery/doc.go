// Package discovery finds the addresses of candidate peers by probing.
package discovery
