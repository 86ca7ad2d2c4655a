// Package patterns turns the overlay into messaging patterns.
package patterns
