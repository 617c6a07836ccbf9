// Package sink reads token-transfer events from the processor and writes them
// to files, Parquet by default. It loses nothing and writes nothing twice,
// whatever ends it: a file appears under its name only when it is complete and
// synced, the checkpoint beside it says which ledgers are on disk, and the next
// run asks for the rest. It never writes a part of a ledger.
//
// What it has read counts as in flight until it is durable. So a slow disk
// shows as load, and once the limit is reached the sink reads no further: HTTP/2
// flow control holds the processor. A file ends when half of the limit waits to
// become durable; larger limits make larger files.
//
// # Concurrency
//
// Run belongs to one goroutine. Everything else may be called from anywhere.
//
// # Errors
//
// A broken stream is taken up again with backoff. Everything else ends Run: an
// event stream with a gap, a ledger that cannot be read, a disk that is full.
// The error names the ledger; a later run continues there.
//
// # Testing
//
// The tests run the sink against a Flight server in the same process.
package sink
