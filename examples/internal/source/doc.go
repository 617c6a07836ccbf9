// Package source is the Flight server of stellar-arrow-source: it serves the
// raw ledgers of a [ledgers.Source] as record batches. It decodes no more of a
// ledger than its header and its counts, and knows nothing of processes,
// environment or metrics.
//
// There is one Flight, "ledgers". Its GetFlightInfo cuts a range into several
// endpoints that can be read in parallel; a ticket names a range of ledgers:
//
//	{"flight":"ledgers","start":53312000,"end":53312199}
//
// A batch is cut by rows and by bytes, whichever comes first, and a ledger
// whose XDR alone is bigger than a batch may be goes out in parts, one batch
// each (columns part, parts and xdr_bytes). So every message stays below gRPC's
// default limit of 4 MiB, whatever the size of a ledger.
//
// DoGet reads the next ledger when the last batch was taken over by the
// transport, and not before: a slow client slows down the reading.
//
// # Concurrency
//
// A [Server] is safe for concurrent use. It starts no goroutine; everything
// happens on the goroutines of gRPC.
//
// # Errors
//
// A bad ticket is INVALID_ARGUMENT, an absent ledger NOT_FOUND, a ledger that
// is damaged DATA_LOSS, a failing backend UNAVAILABLE. The message names the
// ledger. A request for what is not there fails before the first header, so
// that clients may retry elsewhere.
//
// # Testing
//
// New with a [ledgers.Sample] is a complete server for tests of clients.
package source
