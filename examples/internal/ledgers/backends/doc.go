// Package backends reads ledgers from where the Stellar network's are kept:
//
//   - [DataLake]: a data lake in the layout of the SDK's ledger exporter, in a
//     local folder, S3 or GCS, through the SDK's data store.
//   - [RPC]: a Stellar RPC server, through the SDK's client.
//
// It is apart from package ledgers because it links the clients of every cloud:
// only a source needs it.
//
// Both can follow a network that is live: at its tip a stream waits for the next
// ledger. Both prove that each ledger is the one that was asked for and names
// the one before it as its parent.
//
// # Concurrency
//
// Both sources are safe for concurrent use.
//
// # Errors
//
// Those of package ledgers. What failed on the way (a busy or absent server) is
// tried again a bounded number of times and is then [ledgers.ErrBackend]. What
// arrived and is damaged is [ledgers.ErrCorrupt] at once, and names what is wrong.
//
// # Testing
//
// The tests run against fakes of S3, GCS and a Stellar RPC server that evicts,
// pages and limits.
package backends
