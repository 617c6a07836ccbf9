//go:build !race

package flowcontrol

const raceDetector = false
