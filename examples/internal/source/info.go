package source

import (
	"encoding/json"
	"time"
)

// BatchInfo travels with every batch of ledgers as its application metadata.
type BatchInfo struct {
	// Read is when the source read the first ledger of the batch, in nanoseconds
	// since 1970. Whoever has made what came of it durable knows by it how long
	// all of it took.
	Read int64 `json:"read"`
}

// Marshal returns i as JSON.
func (i BatchInfo) Marshal() []byte {
	b, err := json.Marshal(i)
	if err != nil {
		panic("source: " + err.Error()) // a number: cannot fail
	}
	return b
}

// ReadTime reads what Marshal wrote. A batch of another source may say something
// else or nothing: then the time is zero, which is unknown.
func ReadTime(metadata []byte) time.Time {
	var i BatchInfo
	if json.Unmarshal(metadata, &i) != nil || i.Read <= 0 {
		return time.Time{}
	}
	return time.Unix(0, i.Read)
}
