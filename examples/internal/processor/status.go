package processor

import (
	"context"
	"sync/atomic"
	"time"
)

// counters are plain atomics that the streams add to and Status reads.
type counters struct {
	streams, queued, ledgers, transactions, events, errors, cancelled atomic.Int64
	batchesIn, bytesIn, batchesOut, bytesOut, finished, nanos         atomic.Int64

	lastLedger atomic.Uint32
}

// Status is what a server has done since it was made, and what it does now.
type Status struct {
	ActiveStreams int64 `json:"active_streams"`
	Queued        int64 `json:"queued"` // batches read and not yet written
	Ledgers       int64 `json:"ledgers"`
	Transactions  int64 `json:"transactions"`
	Events        int64 `json:"events"`
	BatchesIn     int64 `json:"batches_in"`
	BytesIn       int64 `json:"bytes_in"` // of XDR
	BatchesOut    int64 `json:"batches_out"`
	BytesOut      int64 `json:"bytes_out"`
	Errors        int64 `json:"errors"`    // streams that failed
	Cancelled     int64 `json:"cancelled"` // streams that the client ended

	// MeanLatency is the mean time of a batch from being read to being handed
	// on, in nanoseconds in JSON.
	MeanLatency time.Duration `json:"mean_latency"`
	LastLedger  uint32        `json:"last_ledger"` // most recently handed on, 0 before the first
}

// Counters returns a snapshot. It asks nobody and never fails.
func (s *Server) Counters() Status {
	c := &s.count
	st := Status{
		ActiveStreams: c.streams.Load(),
		Queued:        c.queued.Load(),
		Ledgers:       c.ledgers.Load(),
		Transactions:  c.transactions.Load(),
		Events:        c.events.Load(),
		BatchesIn:     c.batchesIn.Load(),
		BytesIn:       c.bytesIn.Load(),
		BatchesOut:    c.batchesOut.Load(),
		BytesOut:      c.bytesOut.Load(),
		Errors:        c.errors.Load(),
		Cancelled:     c.cancelled.Load(),
		LastLedger:    c.lastLedger.Load(),
	}
	if n := c.finished.Load(); n > 0 {
		st.MeanLatency = time.Duration(c.nanos.Load() / n)
	}
	return st
}

// Status is Counters as get_status returns it.
func (s *Server) Status(context.Context) (Status, error) { return s.Counters(), nil }
