// Package events turns ledgers into token-transfer events and events into
// Arrow record batches.
//
// The events are those of the Stellar SDK's token_transfer processor, field by
// field; nothing is parsed by hand. One event is one row, an [Event], and its
// id is the same in every run.
//
// # Concurrency
//
// An [Extractor] is safe for concurrent use. A [Builder] belongs to one
// goroutine.
//
// # Errors
//
// A ledger that does not decode, or of which the SDK's processor reports an
// error or panics, is an [*Error] that names the ledger and matches
// [ErrExtract]. No event and no ledger is ever skipped.
//
// # Testing
//
// [Direct] runs the extraction without Flight in between: it is what a
// pipeline's output is compared with.
package events
