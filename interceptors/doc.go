// Package interceptors governs the calls of a gRPC server or client: it counts
// what is in flight, makes senders wait when there is no room, refuses what can
// not wait with a hint of when to come back, and guards against messages that
// are not what they seem. It knows Arrow Flight by its shape and links no Arrow.
// It starts no span, writes no metric and decodes no data.
//
//	gate := flowcontrol.New(…)            one gate, several interceptors
//	server := NewServer(ServerConfig{Throttler: gate})
//	flight.NewServerWithMiddleware([]flight.ServerMiddleware{
//	    flight.ServerMiddleware(server.Middleware()),
//	})
//
// A call passes, in this order: the tap handle (optional), draining and open
// streams, the throttler; then each message: the guards, and the throttler again.
//
// # Concurrency
//
// All methods of a [Server] and a [Client] may be called from any goroutine.
// Streams keep gRPC's own rule: one goroutine sends, one receives.
//
// # Errors
//
// Every refusal is an [*Error], an [ErrRejected], and a gRPC status with
// RetryInfo and ErrorInfo in its details.
//
// # Testing
//
// All time comes from package time and all waiting is on channels and contexts,
// so testing/synctest governs it, gRPC and Flight included. Package
// interceptorstest has a Flight pipeline on bufconn and assertions.
package interceptors
