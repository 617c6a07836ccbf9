// Package backpressuretest has what tests of pipelines need: a coordinator that
// follows a script, a recorder of fractions, a control plane in memory, and a
// conformance suite for coordinators of your own.
//
// # Concurrency
//
// All methods may be called from any goroutine.
//
// # Errors
//
// What cannot be set up ends the test.
//
// # Testing
//
// Everything works inside and outside testing/synctest.
package backpressuretest
