//go:build race

package patterns_test

// raceDetector knows 8,128 goroutines at most, and makes everything slow.
const raceDetector = true
