// Package verify reads the files of a run back and compares them, column by
// column, with the Stellar SDK run directly over the ledgers of the source. It
// reads what the folder's checkpoint lists, and nothing else.
//
// Both sides are walked in ledger order, so memory holds one ledger and one
// batch of each open file, however long the run was.
//
// # Concurrency
//
// Compare runs on the caller's goroutine and one more.
//
// # Errors
//
// Lost, duplicate and different events are the result, not errors. A file that
// is not what the checkpoint says, that cannot be read, or whose rows are not in
// ledger order, is an error that names it.
//
// # Testing
//
// The tests write files with the sink's own writers, and read them with an
// independent Parquet implementation too.
package verify
