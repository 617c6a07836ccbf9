package events

import (
	"encoding/json"
	"fmt"
)

// BatchInfo travels with every batch of events as its application metadata. A
// batch holds rows of one ledger only; a ledger with no event is one batch with
// no row, so that progress shows.
type BatchInfo struct {
	Ledger       uint32 `json:"ledger"`
	Transactions int    `json:"transactions"` // of the whole ledger
	Events       int    `json:"events"`       // of the whole ledger
	Last         bool   `json:"last"`         // this batch ends the ledger
	// Entered is when the ledger was read at the source, in nanoseconds since
	// 1970 by the source's clock; 0 is unknown.
	Entered int64 `json:"entered,omitempty"`
}

// Marshal returns i as JSON.
func (i BatchInfo) Marshal() []byte {
	b, err := json.Marshal(i)
	if err != nil {
		panic("events: " + err.Error()) // numbers and a bool: cannot fail
	}
	return b
}

// ParseBatchInfo reads what Marshal wrote.
func ParseBatchInfo(b []byte) (BatchInfo, error) {
	var i BatchInfo
	if err := json.Unmarshal(b, &i); err != nil {
		return BatchInfo{}, fmt.Errorf("events: batch metadata %.100q: %w", b, err)
	}
	if i.Ledger == 0 || i.Transactions < 0 || i.Events < 0 || i.Entered < 0 {
		return BatchInfo{}, fmt.Errorf("events: batch metadata %.100q is not plausible", b)
	}
	return i, nil
}
