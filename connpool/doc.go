// Package connpool is a grpc.ClientConnInterface over several connections to
// one endpoint, for calls that last: Flight streams, above all.
//
// One gRPC connection carries as many streams as its server allows, often 100;
// the next call waits in silence. A [Pool] counts every stream until it really
// ends, learns the server's limit, opens connections before they are full, and
// closes none that carries a stream. Control traffic has a lane of its own, so
// that it never waits behind bulk. It does no batching, caching or failover
// between endpoints; a [Manager] only keeps one pool for each.
//
// # Concurrency
//
// Everything but a single stream may be used by any number of goroutines. A
// pick reads one snapshot and takes one compare-and-swap. Each pool has one
// worker, which alone opens and closes connections; Close waits for it and for
// all that it started.
//
// # Errors
//
// What the pool itself refuses is an [*Error]: it matches [ErrRefused], after
// Close [ErrClosed], and has a gRPC status. Every other error is gRPC's own.
// New joins all that is wrong with a configuration into one error.
//
// # Testing
//
// Package connpooltest has servers on an in-memory network that are slow,
// limited, refusing, or go away. They work under testing/synctest.
package connpool
