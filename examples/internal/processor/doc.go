// Package processor is the Flight server of ttp-arrow-processor: it turns the
// ledgers of a source into token-transfer events. It knows nothing of
// processes, environment or metrics, and keeps no state between requests.
//
// There is one Flight, "ttp_events". It is driven by pull: a consumer asks for
// a range of ledgers, and the processor asks the source for the same range.
//
//	source ─DoGet─▶ read ─┬─▶ queue ─▶ extract (workers) ─┐
//	                      └─▶ queue, in order ────────────┴─▶ write ─DoGet─▶ consumer
//	              permit acquired                         permit released
//
// A batch counts as in flight in the stage's throttler from the moment it was
// read until its events were taken over by the transport towards the consumer.
// The queues hold no more than the throttler admits, so a slow consumer first
// fills its share of the stage (a quarter by default), and then HTTP/2 holds
// back the source. A stream whose consumer takes nothing, or whose source sends
// nothing, for 30 s ends with UNAVAILABLE and gives back what it holds.
//
// Events come in the order of the ledgers, whatever the number of workers. A
// batch holds rows of one ledger only, and says so in its metadata
// ([events.BatchInfo]); a ledger without events is a batch without rows.
//
// # Concurrency
//
// A [Server] is safe for concurrent use. Every goroutine belongs to one DoGet,
// which returns only after all of its goroutines ended, but for a send that its
// consumer does not take: that one ends with the stream.
//
// # Errors
//
// A ledger that does not decode ends the stream with DATA_LOSS and its number
// in the message, after the events of all ledgers before it. What the source
// answers (NOT_FOUND, UNAVAILABLE) is passed on. A source that leaves a ledger
// out, or ends too early, is an INTERNAL error: a stream that ends well has
// every ledger of its range.
//
// # Testing
//
// New over a connection to a server of package source is a complete processor.
package processor
