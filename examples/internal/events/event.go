package events

import (
	"errors"
	"fmt"
	"time"
)

// FlightName is the name of the Flight that carries events.
const FlightName = "ttp_events"

// Event is one token-transfer event, one row. Its JSON names are the column
// names of [Schema]; an empty optional field is null there.
type Event struct {
	ID             string    `json:"event_id"`
	LedgerSequence uint32    `json:"ledger_sequence"`
	ClosedAt       time.Time `json:"closed_at"`
	TxHash         string    `json:"tx_hash"`
	TxIndex        uint32    `json:"tx_index"`           // from 1, within the ledger
	OpIndex        uint32    `json:"op_index,omitempty"` // from 1, within the transaction; 0 = none: a fee
	Ordinal        uint32    `json:"ordinal"`            // from 0, within the operation (or the fees of the transaction)
	Type           string    `json:"event_type"`         // transfer, mint, burn, clawback, fee
	Contract       string    `json:"contract"`           // C… address that emitted it or that stands for the asset
	AssetType      string    `json:"asset_type"`         // see the Asset… constants
	AssetCode      string    `json:"asset_code,omitempty"`
	AssetIssuer    string    `json:"asset_issuer,omitempty"`
	From           string    `json:"from_address,omitempty"` // absent for mint
	To             string    `json:"to_address,omitempty"`   // absent for burn, clawback and fee
	Amount         string    `json:"amount"`                 // of the asset's smallest unit; negative: a fee refund
	ToMuxedType    string    `json:"to_muxed_type,omitempty"`
	ToMuxed        string    `json:"to_muxed,omitempty"` // written as ToMuxedType says
}

// feeEvent is the Type of fees.
const feeEvent = "fee"

// The asset types. The first three are Stellar's own names.
const (
	AssetNative   = "native"
	AssetCredit4  = "credit_alphanum4"
	AssetCredit12 = "credit_alphanum12"
	AssetContract = "contract" // a contract's own token, which is no Stellar asset
)

// The forms of ToMuxed. A memo text is any bytes, but a column of text is
// UTF-8, so a text that is not is written in hexadecimal and says so.
const (
	MuxedID      = "id"       // a decimal number: the muxed account's id or an id memo
	MuxedText    = "text"     // a memo text
	MuxedTextHex = "text_hex" // a memo text that is not UTF-8
	MuxedHash    = "hash"     // a hash memo in hexadecimal
)

// IsTransactionFee says whether e is the fee that every transaction pays once,
// so that counting these counts transactions. A refund is no such event.
func (e *Event) IsTransactionFee() bool {
	return e.Type == feeEvent && e.OpIndex == 0 && e.Ordinal == 0
}

// EventID returns the id of an event: its four coordinates, padded so that ids
// sort as text the way the coordinates sort as numbers.
func EventID(ledger, txIndex, opIndex, ordinal uint32) string {
	return fmt.Sprintf("%010d-%010d-%010d-%010d", ledger, txIndex, opIndex, ordinal)
}

// ErrExtract is what every [*Error] matches.
var ErrExtract = errors.New("events cannot be extracted")

// Error is a ledger whose events could not be extracted.
type Error struct {
	Ledger uint32
	Err    error
}

// Error names the ledger.
func (e *Error) Error() string {
	return fmt.Sprintf("ledger %d: %v: %v", e.Ledger, ErrExtract, e.Err)
}

// Unwrap returns ErrExtract and the cause.
func (e *Error) Unwrap() []error { return []error{ErrExtract, e.Err} }

// Extracted is what one ledger holds.
type Extracted struct {
	Sequence     uint32
	ClosedAt     time.Time
	Transactions int
	Events       []Event // in the order in which they happened
}
