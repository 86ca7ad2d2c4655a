// Package iris is the Go binding of the Iris messaging framework.
package iris
