// Package events is the token-transfer events and their form as Arrow record
// batches. Package extract below it gets them from ledgers.
//
// One event is one row, an [Event], and its id is the same in every run.
//
// # Concurrency
//
// A [Builder] belongs to one goroutine.
//
// # Errors
//
// A ledger whose events cannot be extracted is an [*Error] that names it and
// matches [ErrExtract].
//
// # Testing
//
// extract.Direct gives tests the events of the shipped sample.
package events
