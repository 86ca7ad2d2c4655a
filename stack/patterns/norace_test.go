//go:build !race

package patterns_test

const raceDetector = false
