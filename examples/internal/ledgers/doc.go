// Package ledgers reads closed Stellar ledgers, one after another, as the raw
// XDR of their LedgerCloseMeta. It does not interpret them beyond their header.
//
// Three sources stand behind one small interface: [Sample], two real ledgers of
// the public network that are shipped with this package and replayed in turn for
// as long as wanted, and those of package backends, which read a data lake or a
// Stellar RPC server and are apart because of what they link.
//
// A source never reads ahead without bound: it reads when its iterator is
// pulled, plus the fixed buffer that a backend is configured with.
//
// # Concurrency
//
// A Source is safe for concurrent use. Each call of Ledgers is a stream of its
// own, which one goroutine consumes; everything that it opened is closed when
// its loop ends, by whichever way.
//
// # Errors
//
// Every failure about a ledger is an [*Error] that names the ledger. An absent
// one matches [ErrNotFound], one whose bytes are not the ledger that they
// should be matches [ErrCorrupt], one that could not be read [ErrBackend].
//
// # Testing
//
// The sample serves as the test data of everything above it: see [NewSample].
package ledgers
