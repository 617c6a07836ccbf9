// Package interceptorstest has what tests of governed Flight services need: a
// Flight server and its client on an in-memory connection, services that behave
// badly by name, encoded batches, and assertions on what was tracked.
//
// # Concurrency
//
// Everything runs under testing/synctest: start it inside the bubble, and a
// stream of five minutes takes milliseconds. One bubble a test; Start's cleanup
// ends every goroutine, so the bubble's end is a leak check.
//
// # Errors
//
// Helpers that take a testing.TB fail the test.
//
// # Testing
//
// The tests of package interceptors are written with this package.
package interceptorstest
