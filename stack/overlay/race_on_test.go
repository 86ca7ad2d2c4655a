//go:build race

package overlay

const raceDetector = true // everything takes several times as long
