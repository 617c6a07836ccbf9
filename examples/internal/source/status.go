package source

import (
	"context"
	"sync/atomic"
)

// counters are plain atomics that the streams add to and Status reads.
type counters struct {
	streams, ledgers, transactions, batches, bytes, errors, cancelled atomic.Int64

	lastLedger atomic.Uint32
	lastClosed atomic.Int64 // Unix seconds, 0 before the first
}

// Status is what a server offers and what it has served since it was made.
type Status struct {
	Source string `json:"source"` // kind of the ledger source
	Start  uint32 `json:"start"`  // first ledger that is offered
	End    uint32 `json:"end"`    // last one

	ActiveStreams int64  `json:"active_streams"`
	Ledgers       int64  `json:"ledgers"`
	Transactions  int64  `json:"transactions"`
	Batches       int64  `json:"batches"`
	Bytes         int64  `json:"bytes"`
	Errors        int64  `json:"errors"`      // streams that failed
	Cancelled     int64  `json:"cancelled"`   // streams that the client ended
	LastLedger    uint32 `json:"last_ledger"` // most recently served, 0 before the first
	LastClosed    int64  `json:"last_closed"` // when that one closed, in Unix seconds
}

// Status returns a snapshot. It asks the source for its bounds.
func (s *Server) Status(ctx context.Context) (Status, error) {
	bounds, err := s.ledgers.Bounds(ctx)
	st := s.Counters()
	st.Start, st.End = bounds.First, bounds.Last
	return st, err
}

// Counters is Status without the bounds: it asks nobody and never fails.
func (s *Server) Counters() Status {
	return Status{
		Source:        s.ledgers.Info().Kind,
		ActiveStreams: s.count.streams.Load(),
		Ledgers:       s.count.ledgers.Load(),
		Transactions:  s.count.transactions.Load(),
		Batches:       s.count.batches.Load(),
		Bytes:         s.count.bytes.Load(),
		Errors:        s.count.errors.Load(),
		Cancelled:     s.count.cancelled.Load(),
		LastLedger:    s.count.lastLedger.Load(),
		LastClosed:    s.count.lastClosed.Load(),
	}
}
