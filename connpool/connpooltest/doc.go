// Package connpooltest has gRPC servers that misbehave, on an in-memory
// network, for tests of what is built on a connpool.Pool. A [Server] can be
// slow, flaky, refusing, limited in streams, silent as a half-open connection
// is, send GOAWAY, crash and come back; a [Resolver] changes what a name means.
//
// # Concurrency
//
// Everything may be used by any number of goroutines.
//
// # Errors
//
// Misuse panics with the package's name, as it can only be a test's.
//
// # Testing
//
// Everything works in a testing/synctest bubble: call Stop on each server and
// close each pool before the bubble ends.
package connpooltest
