// Package flowcontroltest helps to test code that uses a limiter: fakes that
// are named by what they do, and a conformance suite for limiters of your own.
//
// The fakes have the verbs of [flowcontrol.Throttler]. Code that should run
// against both declares the verbs that it needs as an interface, or uses
// [Limiter].
//
// # Concurrency
//
// All fakes are safe for concurrent use.
//
// # Errors
//
// A rejection is a *flowcontrol.Error, as the real Throttler's is.
//
// # Testing
//
// Call [Run] from a test of your own limiter; the example adapts
// golang.org/x/time/rate in the repository's internal/bench.
package flowcontroltest
