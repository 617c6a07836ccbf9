// Package grpcjs tests a governed Flight SQL server with a JavaScript client: a
// gRPC stack, an Arrow reader and a Flight client that share no code with Go's.
package grpcjs
