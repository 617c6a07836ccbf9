// Package connpool is a grpc.ClientConnInterface over several connections to
// one endpoint, for long-lived calls: above all, Flight streams.
//
// One gRPC connection carries as many streams as its server allows, often 100;
// the next call blocks with no error. A [Pool] counts every stream until it
// really ends, reads the server's stream limit from the wire, opens connections
// before the open ones are full, and closes none that carries a stream. Control
// traffic has a lane of its own, so that it never waits behind bulk. The pool
// does no batching, caching or failover between endpoints; a [Manager] keeps one
// pool for each endpoint.
//
// # Concurrency
//
// Everything but a single stream may be used by any number of goroutines. A
// pick reads one snapshot and takes one compare-and-swap; it never dials and
// never blocks. One worker alone opens and closes connections; its goroutine runs
// only while it has something to do. Close waits for it and for all that it
// started. A pool whose last connection is closed (MinConnections -1) has no
// goroutine and no timer; an open connection has gRPC's six and one of the pool's.
//
// # Errors
//
// A call that the pool itself rejects returns an [*Error]: it matches
// [ErrRejected], after Close also [ErrClosed], and has a gRPC status. Every other
// error is gRPC's own. New joins all that is wrong with a configuration into one
// error.
//
// The pool sends a call again only to another connection, and only when nothing
// of it has left the process. Retries of what a server has seen belong to gRPC's
// service config and to interceptors.Client; docs/connection-pool.md has the
// table of which retry owns what.
//
// # Testing
//
// Package connpooltest has servers on an in-memory network that are slow,
// limited, unreachable, or go away. They work under testing/synctest. Whether a
// dropped stream is found depends on the garbage collector, which fake time does
// not wait for: set Config.Abandoned to Leave in a bubble.
package connpool
