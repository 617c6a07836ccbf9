// Package flights is what the pipeline's Flight servers share: how a range of
// ledgers becomes a FlightInfo of several endpoints, how a descriptor or a
// ticket is resolved to a range, and the one place where errors become gRPC
// statuses. It serves nothing itself.
//
// # Concurrency
//
// Everything here is a pure function.
//
// # Errors
//
// A request that makes no sense matches [ErrBadRequest]; [Status] says which
// error becomes which code.
//
// # Testing
//
// Nothing is needed: see the package's tests.
package flights
