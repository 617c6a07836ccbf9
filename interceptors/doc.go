// Package interceptors governs the calls of a gRPC server or client: it counts
// what is in flight, makes senders wait when there is no room, rejects what cannot
// wait with a hint of when to come back, and guards against messages that
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
// streams, the gate; then each message: the guards, and the gate again. One gate
// may serve several interceptors. A call that is made for another one, with that
// one's context, rides on what its caller was admitted with: a proxy asks its
// gate once, and does not wait for itself.
//
// A call holds a stream slot until it ends, and room at the gate only for what
// its handler works on: a unary call until it returns, a received message until
// the handler receives or sends again, [ServerConfig.MaxMessageHold] at most.
//
// # Concurrency
//
// All methods of a [Server] and a [Client] may be called from any goroutine.
// Streams keep gRPC's own rule: one goroutine sends, one receives.
//
// # Errors
//
// Every rejection is an [*Error], matches [ErrRejected], and is a gRPC status with
// RetryInfo and ErrorInfo in its details. On the client's side of the wire the
// status is what remains: [RetryAfter] reads its delay.
//
// # Testing
//
// All time comes from package time and all waiting is on channels and contexts,
// so testing/synctest governs it, gRPC and Flight included. The fakes of package
// flowcontroltest are gates. Package interceptorstest has a Flight pipeline on
// bufconn and assertions.
package interceptors
